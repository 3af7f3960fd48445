"""What stands between a decoded request and the store, besides the rules of a kind itself.

prerequisites   other objects that must exist, rights that roles grant
steps           how a decision waits for somebody outside this process
"""
