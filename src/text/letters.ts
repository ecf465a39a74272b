// GPT-2's letters for bytes: printable bytes stand for themselves, the others for the letters from U+0100 on.

/** The letter of each byte. */
export const lettersOfBytes: readonly string[] = (() => {
  let others = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isShown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(isShown ? byte : others++);
  });
})();

/** The byte of each letter. */
export const bytesOfLetters: ReadonlyMap<string, number> = new Map(lettersOfBytes.map((letter, byte) => [letter, byte]));

/** The bytes that a token's letters stand for; undefined where a letter stands for none. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = bytesOfLetters.get(token[i]!);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
