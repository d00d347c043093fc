"""The realtime client: a session over a WebSocket, kept in order by `voxnb.wire.realtime`."""
