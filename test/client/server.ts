// An echo in a thread of its own, for channel.test.ts.
import { udp, type UdpOptions } from "../../src/client/client.ts";

declare const self: Worker;

self.onmessage = async ({ data }: MessageEvent<{ place: UdpOptions; stop: Int32Array }>) => {
  let served = 0;
  const socket = await udp.bind({
    ...data.place,
    socket: {
      batch(_, batch) {
        served += batch.n;
        for (let i = 0; i < batch.n; i++) batch.reply(i);
      },
    },
  });
  postMessage({ port: socket.port });
  socket.run(data.stop);
  socket.close();
  postMessage({ served });
};
