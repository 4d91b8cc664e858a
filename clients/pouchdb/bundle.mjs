// Makes `dist/settle.js` for pages that load scripts without `type="module"`: the files of `src/` in the order in which they
// need each other, as one script that defines `window.settle`. Run by `npm pack`; `bundle()` answers the text.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const HERE = new URL('.', import.meta.url);
const IMPORT = /^import \{[^}]*\} from '\.\/([a-z]+)\.js';\n/gm;

/** The whole helper as one classic script. */
export async function bundle() {
  const parts = [];
  const seen = new Set();
  const add = async (name) => {
    if (seen.has(name)) return;
    seen.add(name);
    const text = await readFile(new URL(`src/${name}.js`, HERE), 'utf8');
    for (const [, needed] of text.matchAll(IMPORT)) await add(needed);
    const local = text.replace(IMPORT, '').replace(/^export \{.*\};\n/gm, '').replace(/^export (default )?/gm, '');
    parts.push(local.trim());
  };
  await add('index');
  const exported = 'globalThis.settle = Object.assign(settle, { plugin, checkReceipt, SettleError });';
  return `// Settle's helper for PouchDB, Apache-2.0\n(() => {\n'use strict';\n${parts.join('\n\n')}\n\n${exported}\n})();\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await mkdir(new URL('dist', HERE), { recursive: true });
  await writeFile(new URL('dist/settle.js', HERE), await bundle());
  await copyFile(new URL('../../LICENSE', HERE), new URL('LICENSE', HERE));
}
