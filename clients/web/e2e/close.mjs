// A session that is refused tells the page why, in the browser's own words: VEZA_URL=… node e2e/close.mjs
import { assert, run, url } from "./browser.mjs";

await run("close", 60_000, async ({ browser, check, open, figure }) => {
  const context = await browser.newContext();
  // Any page of the server's will do; its own session is not the one that is watched.
  const page = await open(context, "alice", { room: "lobby" });

  const closed = await check("a wrong token closes the session with its code", () =>
    page.evaluate(async (base) => {
      const { webtransportUrl, certificateHashes } = await (await fetch(`${base}/veza.json`)).json();
      const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
      const serverCertificateHashes = certificateHashes.map((hash) => ({ algorithm: "sha-256", value: bytes(hash) }));
      const wt = new WebTransport(webtransportUrl, { serverCertificateHashes });
      const step = (what) => (error) => {
        throw new Error(`${what}: ${error}`);
      };
      await wt.ready.catch(step("opening"));
      const { writable, readable } = await wt.createBidirectionalStream().catch(step("the control lane"));
      // The control lane, then hello{token: "nonsense"} as command 1 (proto/veza/v1/session.proto).
      const token = new TextEncoder().encode("nonsense");
      const hello = [0x0a, token.length, ...token];
      const frame = [0x08, 1, 0x12, hello.length, ...hello];
      await writable.getWriter().write(new Uint8Array([0, frame.length, ...frame])).catch(step("hello"));
      const reader = readable.getReader();
      const late = new Promise((_, reject) => setTimeout(() => reject(new Error("the session stayed open")), 10_000));
      const drained = (async () => {
        let read = 0;
        for (;;) {
          const { value, done } = await reader.read();
          if (done) return read;
          read += value.length;
        }
      })().catch((error) => `the lane failed: ${error}`);
      const { closeCode, reason } = await Promise.race([wt.closed.catch(step("the close")), late]);
      return { closeCode, reason, read: await drained };
    }, url));

  figure("close_code", closed.closeCode);
  figure("reason", closed.reason);
  figure("bytes_before", closed.read);
  assert(closed.closeCode === 4401, `closed with ${JSON.stringify(closed)}`);
});
