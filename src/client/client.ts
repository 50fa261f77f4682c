// netd/client: programs in Bun as clients of netd. docs/client.md has the examples.
//
//   attach   a channel: every frame of what the program listens to, where it lies
//   udp      sockets like Bun.udpSocket's, over such a channel
export { attach, Channel, type AttachOptions, type Listen } from "./channel.ts";
export type { Datagrams } from "./datagrams.ts";
export type { Frames, Pipe } from "./pipe.ts";
export { type Grant, Refused } from "./request.ts";
export { udp, UdpSocket, type UdpHandlers, type UdpOptions } from "./udp.ts";
export { SysError } from "../../ffi/errno.ts";
