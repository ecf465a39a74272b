// The tape: what each tensor was computed from, backward over it, and the scopes tidy() and noGrad().
import { addInto } from './arithmetic.js';
import { kindError, LimbeckError, phrase, wording } from './errors.js';
import { cloned, emptyLike, stateOf, Tensor, view, watch } from './tensor.js';

/** What a backward function may know about the call it serves. */
export interface BackwardContext {
  /** The graph is kept: saved tensors must stay as they are. */
  readonly retain: boolean;
  /** Which inputs want a gradient. */
  readonly needs: readonly boolean[];
}

/**
 * The gradients of the inputs from the gradient of the output; null where none is needed. The caller owns what comes back.
 * The output's gradient itself may come back too; it must not be written.
 */
export type Backward = (gradient: Tensor, context: BackwardContext) => readonly (Tensor | null)[];

/** One entry of the tape. */
export interface Node {
  readonly name: string;
  readonly inputs: readonly Tensor[];
  /** Tensors the backward function reads besides the inputs. */
  readonly saved: readonly Tensor[];
  /** Null once the graph is freed. */
  backward: Backward | null;
  /** Later nodes are computed from earlier ones. */
  readonly order: number;
}

let recording = true;
let nextOrder = 0;

/** Whether operations are recorded for backward(). */
export function isRecording(): boolean {
  return recording;
}

/** Whether a result of these inputs will be differentiated. */
export function wantsGradient(...inputs: readonly (Tensor | null | undefined)[]): boolean {
  return recording && inputs.some((input) => input?.requiresGrad === true);
}

/** Notes how `out` was computed, where a gradient could be asked of it. Gives `out` back. */
export function record(name: string, out: Tensor, inputs: readonly Tensor[], backward: Backward, saved: readonly Tensor[] = []): Tensor {
  if (recording && inputs.some((input) => input.requiresGrad)) {
    const state = stateOf(out);
    state.requiresGrad = true;
    state.node = { name, inputs, saved, backward, order: nextOrder++ };
  }
  return out;
}

/** What the `run` of an operation gives back. */
export interface Computed {
  out: Tensor;
  inputs: readonly Tensor[];
  /** A function, or the words that say that there is none: no gradient is lost by omission. */
  backward: Backward | 'not differentiable';
  saved?: readonly Tensor[];
}

/**
 * Makes an operation from its name and how it runs. `run` checks its arguments, calls kernels and says how to go back; the
 * result of a 'not differentiable' one is a constant.
 */
export function defineOp<A extends unknown[]>(op: { name: string; run: (...args: A) => Computed }): (...args: A) => Tensor {
  return (...args) => {
    const { out, inputs, backward, saved } = op.run(...args);
    return backward === 'not differentiable' ? out : record(op.name, out, inputs, backward, saved);
  };
}

/** A gradient on its way: always a tensor object of the engine's own, its memory possibly shared with others. */
function deposit(pending: Map<Node, Tensor>, input: Tensor, gradient: Tensor): void {
  const state = stateOf(input);
  if (state.node !== null) {
    const there = pending.get(state.node);
    pending.set(state.node, there === undefined ? gradient : sumOf(there, gradient));
    return;
  }
  if (state.storage === null) throw kindError('run backward', 'a tensor that requires grad must not be disposed before', phrase('it is'));
  const { grad } = state;
  if (grad !== null) {
    const total = sumOf(grad, gradient, state.gradSeen);
    if (total === grad) return;
    stateOf(grad).gradOf = null;
    adoptGradient(input, total);
  } else if (soleOwner(gradient)) {
    adoptGradient(input, gradient);
  } else {
    const copy = cloned(gradient, 'run backward');
    gradient.dispose();
    adoptGradient(input, copy);
  }
}

function adoptGradient(leaf: Tensor, gradient: Tensor): void {
  const own = stateOf(gradient);
  own.gradOf = leaf;
  own.uniform = null;
  const state = stateOf(leaf);
  state.grad = gradient;
  state.gradSeen = false;
}

function soleOwner(gradient: Tensor): boolean {
  const storage = stateOf(gradient).storage;
  return storage !== null && storage.share.references === 1;
}

/** Adds into `a` where no other tensor shares its memory. Takes both over, `a` only where nobody outside holds it. */
function sumOf(a: Tensor, b: Tensor, held = false): Tensor {
  const inPlace = soleOwner(a);
  const out = inPlace ? a : emptyLike(a, 'run backward');
  addInto(out, a, b);
  stateOf(out).uniform = null;
  b.dispose();
  if (!inPlace && !held) a.dispose();
  return out;
}

/** Backward from `root`, whose gradient is `upstream` (taken over). */
export function runBackward(root: Tensor, upstream: Tensor, retain: boolean): void {
  const before = recording;
  recording = false;
  const pending = new Map<Node, Tensor>();
  try {
    deposit(pending, root, upstream);
    const rootNode = stateOf(root).node;
    if (rootNode === null) return;
    const order = reachable(rootNode);
    for (const node of order) if (node.backward === null) throw freed(node);
    for (const node of order) {
      const gradient = pending.get(node);
      if (gradient === undefined) continue;
      pending.delete(node);
      step(pending, node, gradient, retain);
    }
    if (!retain) for (const node of order) free(node);
  } finally {
    recording = before;
    for (const left of pending.values()) left.dispose();
  }
}

function step(pending: Map<Node, Tensor>, node: Node, gradient: Tensor, retain: boolean): void {
  const needs = node.inputs.map((input) => input.requiresGrad);
  const results = node.backward!(gradient, { retain, needs });
  const owned = new Set<Tensor>([gradient]);
  const given = node.inputs.map((_, i) => {
    const result = results[i] ?? null;
    if (result === null) {
      if (!needs[i]) return null;
      throw kindError(
        'run backward',
        `${node.name} must have a gradient for its input ${i + 1}`,
        phrase('it has none; detach() that input'),
      );
    }
    // The same object twice, or the gradient itself: each receiver gets a view of its own.
    if (!owned.has(result)) {
      owned.add(result);
      return result;
    }
    return view(result);
  });
  gradient.dispose();
  given.forEach((result, i) => {
    if (result === null) return;
    if (needs[i]) deposit(pending, node.inputs[i]!, result);
    else result.dispose();
  });
}

/** The nodes `root` was computed from, each after all that were computed from it. */
function reachable(root: Node): Node[] {
  const seen = new Set<Node>([root]);
  const stack = [root];
  while (stack.length > 0) {
    for (const input of stack.pop()!.inputs) {
      const { node } = stateOf(input);
      if (node !== null && !seen.has(node)) {
        seen.add(node);
        stack.push(node);
      }
    }
  }
  return [...seen].sort((a, b) => b.order - a.order);
}

function freed(node: Node): LimbeckError {
  return new LimbeckError(
    'graph_freed',
    wording(
      'run backward',
      'the graph must be there',
      `${node.name} was freed by an earlier backward(); give that one { retainGraph: true }`,
    ),
  );
}

function free(node: Node): void {
  node.backward = null;
  (node as { inputs: readonly Tensor[] }).inputs = [];
  (node as { saved: readonly Tensor[] }).saved = [];
}

/**
 * Runs `fn` without recording: results need no gradient, and nothing is kept for backward().
 *
 * @param fn a synchronous function
 */
export function noGrad<T>(fn: () => T): T {
  if (typeof fn !== 'function') throw kindError('run noGrad', 'fn must be a function', fn);
  const before = recording;
  recording = false;
  try {
    const result = fn();
    refusePromise('noGrad', result);
    return result;
  } finally {
    recording = before;
  }
}

// ---- tidy

const scopes: Tensor[][] = [];

/** Every new tensor passes here, and every gradient that was let go of. */
export function enterScope(tensor: Tensor): void {
  const scope = scopes[scopes.length - 1];
  if (scope === undefined) watch(tensor);
  else scope.push(tensor);
}

/** Lets a tensor outlive every tidy() it was made in: optimiser state, caches. */
export function keep(tensor: Tensor): Tensor {
  stateOf(tensor).kept = true;
  return tensor;
}

/**
 * Runs `fn` and disposes every tensor made in it, except those in its result (in arrays and objects too), what those need
 * for backward(), and the gradients of tensors that live on.
 *
 * @param fn a synchronous function
 *
 * @example
 * const loss = tidy(() => kdLoss(model.forward(x), targets).item());
 */
export function tidy<T>(fn: () => T): T {
  if (typeof fn !== 'function') throw kindError('run tidy', 'fn must be a function', fn);
  const made: Tensor[] = [];
  scopes.push(made);
  let result: T | undefined;
  try {
    result = fn();
    refusePromise('tidy', result);
    return result;
  } finally {
    scopes.splice(scopes.indexOf(made), 1);
    endScope(made, result);
  }
}

function endScope(made: readonly Tensor[], result: unknown): void {
  const needed = new Set<Tensor>();
  if (result !== undefined) collect(result, needed, new Set(), 0);
  const dying = new Set<Tensor>();
  for (const tensor of made) if (!stateOf(tensor).kept && !needed.has(tensor)) dying.add(tensor);
  for (const tensor of dying) {
    const { gradOf } = stateOf(tensor);
    // A gradient lives as long as its leaf does.
    if (gradOf !== null && stateOf(gradOf).storage !== null && !dying.has(gradOf)) dying.delete(tensor);
  }
  for (const tensor of made) {
    const state = stateOf(tensor);
    if (!dying.has(tensor)) {
      if (state.kept) watch(tensor);
      else if (state.storage !== null) enterScope(tensor);
      continue;
    }
    // Its gradient is judged by itself: the result may hold it.
    if (state.grad !== null && !dying.has(state.grad)) {
      stateOf(state.grad).gradOf = null;
      state.grad = null;
    }
    tensor.dispose();
  }
}

/** Runs `fn` and puts what it makes into `made`: the caller's to dispose, together with what backward() makes of it later. */
export function collecting<T>(made: Tensor[], fn: () => T): T {
  scopes.push(made);
  try {
    return fn();
  } finally {
    scopes.splice(scopes.indexOf(made), 1);
    made.forEach(watch);
  }
}

/** Disposes what was collected, but for tensors that are meant to stay. */
export function disposeAll(made: readonly Tensor[], spared?: Tensor): void {
  for (const tensor of made) if (tensor !== spared && !stateOf(tensor).kept) tensor.dispose();
}

/** The tensors in a value, and those their graphs need. */
function collect(value: unknown, into: Set<Tensor>, seen: Set<unknown>, depth: number): void {
  if (value === null || typeof value !== 'object' || seen.has(value) || ArrayBuffer.isView(value) || depth > 64) return;
  seen.add(value);
  if (value instanceof Tensor) {
    into.add(value);
    const { node, grad } = stateOf(value);
    if (grad !== null) into.add(grad);
    if (node !== null) {
      for (const each of reachable(node)) {
        for (const tensor of each.inputs) into.add(tensor);
        for (const tensor of each.saved) into.add(tensor);
      }
    }
    return;
  }
  const entries: Iterable<unknown> = value instanceof Map || value instanceof Set ? value : Object.values(value);
  for (const entry of entries) collect(entry, into, seen, depth + 1);
}

function refusePromise(name: string, result: unknown): void {
  if (result instanceof Promise) {
    result.catch(() => undefined);
    throw kindError(`run ${name}`, 'fn must be synchronous', phrase('it gave back a Promise'));
  }
}
