// UDP echo on a card that netd serves, IPv4 and IPv6: every datagram is answered where it lies.
//   bun src/client/examples/echo.ts eth0 7 [CONTROL SOCKET]
import { udp } from "netd/client";

const [ifname = "eth0", port = "7", server] = Bun.argv.slice(2);
const socket = await udp.bind({
  interface: ifname,
  port: Number(port),
  server,
  socket: {
    batch(_socket, batch) {
      for (let i = 0; i < batch.n; i++) batch.reply(i);
    },
  },
});
console.log(`echo on ${ifname} port ${socket.port}, by ${socket.channel.kind}`);
