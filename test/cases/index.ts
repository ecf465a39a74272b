// Every case file: the list that vitest, the GPU bundle and the bench walk.
import type { CaseFile } from '../subject.js';
import { adamw } from './adamw.js';
import { adaptive_kl } from './adaptive_kl.js';
import { attention } from './attention.js';
import { argsort } from './argsort.js';
import { batch_losses } from './batch_losses.js';
import { bias_activation } from './bias_activation.js';
import { bild_loss } from './bild.js';
import { binary } from './binary.js';
import { capture_top_k } from './capture_top_k.js';
import { convolution } from './convolution.js';
import { dkd_loss } from './dkd.js';
import { dropout } from './dropout.js';
import { feature_losses } from './feature_losses.js';
import { fill } from './fill.js';
import { forward_kl } from './forward_kl.js';
import { gather_cols } from './gather_cols.js';
import { gather_rows } from './gather_rows.js';
import { half_types } from './half_types.js';
import { jensen_shannon } from './jensen_shannon.js';
import { kd_loss } from './kd_loss.js';
import { label_target } from './label_target.js';
import { layer_norm } from './layer_norm.js';
import { linear_kd_loss } from './linear_kd_loss.js';
import { lion } from './lion.js';
import { logit_losses } from './logit_losses.js';
import { matmul } from './matmul.js';
import { mix_targets } from './mix_targets.js';
import { plackett_luce } from './plackett_luce.js';
import { reduce } from './reduce.js';
import { reverse_kl } from './reverse_kl.js';
import { sample_target } from './sample_target.js';
import { scan } from './scan.js';
import { scale_and_average } from './scale_and_average.js';
import { selection } from './selection.js';
import { sgd } from './sgd.js';
import { skew_forward_kl } from './skew_forward_kl.js';
import { skew_reverse_kl } from './skew_reverse_kl.js';
import { soft_cross_entropy } from './soft_cross_entropy.js';
import { soften } from './soften.js';
import { softmax } from './softmax.js';
import { square_sums } from './square_sums.js';
import { squared_hellinger } from './squared_hellinger.js';
import { symmetric_kl } from './symmetric_kl.js';
import { top_k } from './top_k.js';
import { total_variation } from './total_variation.js';
import { unary } from './unary.js';

export const cases: CaseFile[] = [
  softmax,
  top_k,
  capture_top_k,
  forward_kl,
  jensen_shannon,
  reverse_kl,
  skew_forward_kl,
  skew_reverse_kl,
  soft_cross_entropy,
  adaptive_kl,
  squared_hellinger,
  symmetric_kl,
  total_variation,
  kd_loss,
  linear_kd_loss,
  half_types,
  matmul,
  unary,
  binary,
  reduce,
  dropout,
  gather_rows,
  layer_norm,
  attention,
  convolution,
  fill,
  sgd,
  adamw,
  lion,
  square_sums,
  scale_and_average,
  bias_activation,
  sample_target,
  mix_targets,
  soften,
  label_target,
  argsort,
  gather_cols,
  scan,
  plackett_luce,
  dkd_loss,
  bild_loss,
  logit_losses,
  batch_losses,
  feature_losses,
  selection,
];
