// What makes a receipt believable: the server's Ed25519 signature over its members. See docs/handover-protocol.md, section 4.

/** The signed members, in the order in which they are signed. */
const SIGNED = ['server', 'incarnation', 'database', 'database_uuid', 'device', 'account', 'manifest', 'documents',
  'revisions', 'escrowed', 'root', 'position', 'time'];

/** The text that the signature covers. */
export function signedText(receipt) {
  return ['settle receipt 1', ...SIGNED.map((name) => `${name}=${receipt[name]}`), ''].join('\n');
}

/**
 * Checks a receipt with the server's public key (64 hex digits): `'valid'`, `'invalid'`, or `'unchecked'` when this platform
 * cannot tell: no WebCrypto (a page that is not served by https or from localhost has none), or one without Ed25519.
 */
export async function checkReceipt(receipt, key) {
  if (receipt.key !== key) return 'invalid';
  const { subtle } = globalThis.crypto ?? {};
  if (!subtle) return 'unchecked';
  let imported;
  try {
    imported = await subtle.importKey('raw', bytesOf(key), { name: 'Ed25519' }, false, ['verify']);
  } catch {
    return 'unchecked';
  }
  const text = new TextEncoder().encode(signedText(receipt));
  return (await subtle.verify({ name: 'Ed25519' }, imported, bytesOf(receipt.signature), text)) ? 'valid' : 'invalid';
}

function bytesOf(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
