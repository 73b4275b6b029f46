import { handleOf } from "./media";

/** Which ports a link's media packets go to, by their handles. */
export class Carriage {
  private readonly ports = new Map<number, MessagePort>();

  carry(port: MessagePort, handle: number, send: (packet: Uint8Array<ArrayBuffer>) => void): void {
    for (const [other, known] of this.ports) if (known === port) this.ports.delete(other);
    this.ports.set(handle, port);
    // A port has one link: the last one that was told to carry it.
    port.onmessage = ({ data }: MessageEvent<Uint8Array<ArrayBuffer>>) => send(data);
  }

  /** Gives a packet to its port; `false` when there is none. */
  deliver(packet: Uint8Array): boolean {
    const port = this.ports.get(handleOf(packet) ?? -1);
    if (!port) return false;
    give(port, packet);
    return true;
  }
}

/** Hands bytes over to another thread. Those that are a part of something larger are not ours to give away, and copied. */
export function give(port: MessagePort, bytes: Uint8Array): void {
  const whole = bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
  port.postMessage(whole, [whole.buffer as ArrayBuffer]);
}
