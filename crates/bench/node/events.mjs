// The same server in Node: one thread, and a function for each event.

import { createServer } from "node:net";
import { writeSync } from "node:fs";

const say = (text) => writeSync(1, `${text}\n`);

// What the client half-closes, this side may still write to.
const server = createServer({ allowHalfOpen: true }, (socket) => {
  const name = `${socket.remoteAddress}:${socket.remotePort}`;
  say(`${name} connected`);
  let total = 0;
  socket.on("data", (data) => {
    total += data.length;
    // No room: nothing is read until there is.
    if (!socket.write(data)) {
      socket.pause();
      socket.once("drain", () => socket.resume());
    }
  });
  socket.on("end", () => {
    say(`${name} closed the connection after ${total} bytes`);
    socket.end();
  });
  socket.on("error", (error) => console.error(`${name}: ${error.message}`));
});

server.listen({ port: 0, host: "127.0.0.1", backlog: 128 }, () => {
  const { address, port } = server.address();
  say(`listening on ${address}:${port}`);
});
