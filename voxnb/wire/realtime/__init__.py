"""The Realtime API as its client sees it: one session as a pure state machine.

`RealtimeSession` is told what is to be sent and what has come, and says what may go out now, what an event means and
where the other side breaks its own order. It holds no socket and asks no clock.
"""
