// Every case file: the list that vitest, the GPU bundle and the bench walk.
import type { CaseFile } from '../subject.js';
import { adamw } from './adamw.js';
import { binary } from './binary.js';
import { capture_top_k } from './capture_top_k.js';
import { dropout } from './dropout.js';
import { fill } from './fill.js';
import { forward_kl } from './forward_kl.js';
import { gather_rows } from './gather_rows.js';
import { kd_loss } from './kd_loss.js';
import { matmul } from './matmul.js';
import { reduce } from './reduce.js';
import { sample_target } from './sample_target.js';
import { sgd } from './sgd.js';
import { softmax } from './softmax.js';
import { top_k } from './top_k.js';
import { unary } from './unary.js';

export const cases: CaseFile[] = [
  softmax,
  top_k,
  capture_top_k,
  forward_kl,
  kd_loss,
  matmul,
  unary,
  binary,
  reduce,
  dropout,
  gather_rows,
  fill,
  sgd,
  adamw,
  sample_target,
];
