// The peers of a bench as processes: started, asked one thing at a time, skipped with a word where they are missing.
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';

// PyTorch gives pages back to the system after every operation unless told otherwise, which costs it more than its kernels.
export const KEEP_PAGES = { MALLOC_MMAP_THRESHOLD_: '4294967296', MALLOC_TRIM_THRESHOLD_: '8589934592', MALLOC_TOP_PAD_: '268435456' };
/** A Python that has PyTorch. */
export const python = ['/usr/bin/python3', 'python3'].find(
  (name) => spawnSync(name, ['-c', 'import torch, numpy'], { stdio: 'ignore' }).status === 0,
);
export const NO_TORCH = 'no python3 that has torch and numpy (Debian: python3-torch)';

/** A peer's process: one request and one reply at a time. */
export class Peer {
  #waiting = [];
  #process;

  /** Those that are there, of all or of those whose name holds one of `parts`. */
  static async startAll(starts, parts) {
    const peers = [];
    for (const [name, start] of Object.entries(starts)) {
      if (parts !== undefined && !parts.some((part) => name.includes(part))) continue;
      const peer = await Peer.start(name, start);
      if (peer !== undefined) peers.push(peer);
    }
    return peers;
  }

  static async start(name, { command, args, env, missing }) {
    if (command === undefined) return console.log(`${name}: skipped: ${missing}`);
    const peer = new Peer(name);
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    let trouble = '';
    child.stderr.on('data', (text) => (trouble = `${trouble}${text}`.slice(-400)));
    child.on('error', (error) => (trouble = error.message));
    child.stdin.on('error', () => {});
    createInterface({ input: child.stdout }).on(
      'line',
      (line) => line.startsWith('@') && peer.#waiting.shift()?.(JSON.parse(line.slice(1))),
    );
    child.on('close', () => {
      peer.#process = undefined;
      for (const wake of peer.#waiting.splice(0)) wake({ error: trouble.trim().split('\n').at(-1) || 'it ended' });
    });
    peer.#process = child;
    const { ready, error } = await peer.#reply();
    if (ready === undefined) return console.log(`${name}: skipped: ${error}`);
    peer.title = ready;
    return peer;
  }

  constructor(name) {
    this.name = name;
  }

  #reply() {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The variants' times, or nothing where the peer has none for this task. */
  async measure(request) {
    if (this.#process === undefined) return {};
    const reply = this.#reply();
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    const { variants, error } = await reply;
    if (error !== undefined)
      console.log(`${this.name}: ${request.task}${request.rows === undefined ? '' : ` ${request.rows}x${request.cols}`}: ${error}`);
    return variants ?? {};
  }

  stop() {
    this.#process?.stdin.end();
  }
}
