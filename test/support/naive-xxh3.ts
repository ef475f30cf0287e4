/**
 * XXH3-128 of more than 240 bytes, as its specification says it, number by number
 * (github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
 */
const SECRET = Buffer.from(
  [
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f",
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c",
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8",
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364",
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e",
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e",
  ].join(""),
  "hex",
);
const P32 = [0x9e3779b1n, 0x85ebca77n, 0xc2b2ae3dn] as const;
const P64 = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
] as const;
const STRIPES_A_BLOCK = 16;

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);
const low = (value: bigint): bigint => value & 0xffffffffn;

class Accumulators {
  readonly values: bigint[] = [P32[2], ...P64.slice(0, 4), P32[1], P64[4], P32[0]];

  add(stripe: Buffer, secretAt: number): void {
    const sums = [...this.values];
    for (let lane = 0; lane < 8; lane += 1) {
      const data = stripe.readBigUInt64LE(8 * lane);
      const key = data ^ SECRET.readBigUInt64LE(secretAt + 8 * lane);
      sums[lane ^ 1] = wrap((sums[lane ^ 1] ?? 0n) + data);
      sums[lane] = wrap((sums[lane] ?? 0n) + low(key) * (key >> 32n));
    }
    this.values.splice(0, 8, ...sums);
  }

  scramble(): void {
    for (const [lane, value] of this.values.entries()) {
      const key = SECRET.readBigUInt64LE(SECRET.length - 64 + 8 * lane);
      this.values[lane] = wrap((value ^ (value >> 47n) ^ key) * P32[0]);
    }
  }

  merged(secretAt: number, start: bigint): bigint {
    let sum = start;
    for (let pair = 0; pair < 4; pair += 1) {
      const [one = 0n, other = 0n] = this.values.slice(2 * pair, 2 * pair + 2);
      const product =
        (one ^ SECRET.readBigUInt64LE(secretAt + 16 * pair)) *
        (other ^ SECRET.readBigUInt64LE(secretAt + 16 * pair + 8));
      sum = wrap(sum + (wrap(product) ^ (product >> 64n)));
    }
    const mixed = wrap((sum ^ (sum >> 37n)) * 0x165667919e3779f9n);
    return mixed ^ (mixed >> 32n);
  }
}

/** In hex. */
export function naiveXxh3(bytes: Buffer): string {
  const sums = new Accumulators();
  const stripes = Math.floor((bytes.length - 1) / 64);
  for (let stripe = 0; stripe < stripes; stripe += 1) {
    const inBlock = stripe % STRIPES_A_BLOCK;
    sums.add(bytes.subarray(64 * stripe), 8 * inBlock);
    if (inBlock === STRIPES_A_BLOCK - 1) sums.scramble();
  }
  sums.add(bytes.subarray(bytes.length - 64), SECRET.length - 64 - 7);
  const length = BigInt(bytes.length);
  const high = sums.merged(SECRET.length - 64 - 11, wrap(~(length * P64[1])));
  const hex = (value: bigint): string => value.toString(16).padStart(16, "0");
  return hex(high) + hex(sums.merged(11, wrap(length * P64[0])));
}
