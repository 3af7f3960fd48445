"""A node of the laptop cluster: two processes that run pods as processes of this machine.

The *agent* (`__main__`, `agent`, `pod`) is what a kubelet is: it watches the pods bound to its node, decides, and
writes their status. The *runner* (`runner`, `runtime/`) is what a container runtime is: it forks, reaps and keeps
logs. The runner outlives the agent, so pods keep running while the agent is replaced; when the runner dies, the
kernel kills everything it started.
"""
