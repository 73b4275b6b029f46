// A network in between: UDP datagrams to the server and back, late, lost, from another address, or not at all.
import { createSocket } from "node:dgram";

export class Relay {
  /** Both ways. */
  loss = 0;
  /** Each datagram is held for up to this long, so that some overtake others. */
  jitterMs = 0;
  dead = false;
  counts = { passed: 0, lost: 0 };
  #inside = createSocket("udp4");
  /** By the client's port: what the server sees of it. */
  #outside = new Map();
  #state = 12_345;

  constructor(serverPort) {
    this.serverPort = serverPort;
  }

  async start() {
    await new Promise((resolve) => this.#inside.bind(0, "127.0.0.1", resolve));
    this.#inside.on("message", (bytes, { port }) => this.#pass(() => this.#socketFor(port).send(bytes, this.serverPort, "127.0.0.1")));
    return this;
  }

  get port() {
    return this.#inside.address().port;
  }

  /** What a phone does that leaves the house: the server sees every client come from another port. */
  rebind() {
    for (const socket of this.#outside.values()) setTimeout(() => socket.close(), 500);
    this.#outside.clear();
  }

  /** `dead` is a network that swallows everything; after this there is nobody at the port. */
  stop() {
    this.dead = true;
    this.#inside.close();
    for (const socket of this.#outside.values()) socket.close();
  }

  #socketFor(clientPort) {
    let socket = this.#outside.get(clientPort);
    if (socket) return socket;
    socket = createSocket("udp4");
    socket.on("message", (bytes) => this.#pass(() => this.#inside.send(bytes, clientPort, "127.0.0.1")));
    this.#outside.set(clientPort, socket);
    return socket;
  }

  #pass(send) {
    if (this.dead) return;
    if (this.#chance() < this.loss) return void (this.counts.lost += 1);
    this.counts.passed += 1;
    const go = () => {
      if (!this.dead) send();
    };
    if (this.jitterMs > 0) setTimeout(go, this.#chance() * this.jitterMs);
    else go();
  }

  #chance() {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#state / 2 ** 32;
  }
}
