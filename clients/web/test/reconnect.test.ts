import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, BACKOFF_BASE_MS, BACKOFF_CAP_MS, comeback } from "../src/sdk/reconnect";
import { FakeClock } from "./fakes";

test("waits are uniform below a ceiling that doubles up to its cap", () => {
  const clock = new FakeClock();
  const backoff = new Backoff(clock);
  clock.chance = 0.999_999;
  const ceilings = Array.from({ length: 9 }, () => backoff.next());
  assert.deepEqual(ceilings, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, BACKOFF_CAP_MS, BACKOFF_CAP_MS]);
  clock.chance = 0;
  assert.equal(backoff.next(), 0, "full jitter reaches down to nothing");
  backoff.reset();
  clock.chance = 0.5;
  assert.equal(backoff.next(), BACKOFF_BASE_MS / 2);
});

test("close codes say whether to come back", () => {
  for (const code of [0, 1006, 1009, 1011, 1012, 1013, 4011, 4012, 4013, 4400, 4408, 4409, 4410, 4429]) {
    assert.equal(comeback(code), "retry", String(code));
  }
  assert.equal(comeback(4401), "new_token");
  for (const code of [1000, 4000, 4500, 4502, 4503, 4504, 4599]) assert.equal(comeback(code), "stop", String(code));
});
