"""Streams that die half-way: an honest end, or another backend that goes on from the text so far."""
