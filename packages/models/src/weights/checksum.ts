/** An odd number without pattern: 2^32 over the golden ratio. */
const FACTOR = 0x9e3779b1;

/**
 * A checksum against damage, not against intent: every change of one word changes it, and of other changes all but one in
 * 2^32. Four independent chains keep a core busy, so that it takes several GB a second, which no digest of the platform does.
 *
 * @param bytes a whole number of 32-bit words, aligned to them
 */
export function checksum(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  let a = 1;
  let b = 2;
  let c = 3;
  let d = 4;
  const whole = words.length - (words.length % 4);
  for (let i = 0; i < whole; i += 4) {
    a = Math.imul(((a << 13) | (a >>> 19)) ^ (words[i] ?? 0), FACTOR);
    b = Math.imul(((b << 13) | (b >>> 19)) ^ (words[i + 1] ?? 0), FACTOR);
    c = Math.imul(((c << 13) | (c >>> 19)) ^ (words[i + 2] ?? 0), FACTOR);
    d = Math.imul(((d << 13) | (d >>> 19)) ^ (words[i + 3] ?? 0), FACTOR);
  }
  let sum = words.length;
  for (const part of [...words.subarray(whole), a, b, c, d]) {
    sum = Math.imul(((sum << 13) | (sum >>> 19)) ^ part, FACTOR);
  }
  return sum >>> 0;
}
