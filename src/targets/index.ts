// Everything about what a teacher says.
export { captureTopK, type CaptureOptions } from './capture.js';
export { DenseTarget, denseTarget, SparseTarget, sparseTarget, type DenseKind, type SparseTargetParts } from './target.js';
export { loadTargets, saveTargets, type LoadTargetsOptions, type Target } from './file.js';
export { sampleTarget, type SampleMethod, type SampleOptions } from './sample.js';
export { interpolateTarget, InterpolatedTarget } from './interpolate.js';
export { deltaTarget, type DeltaOptions } from './delta.js';
export {
  correctTarget,
  mixWithLabels,
  ofaTarget,
  virtualTeacher,
  type CorrectOptions,
  type LabelOptions,
  type MixWithLabelsOptions,
  type OfaOptions,
  type VirtualTeacherOptions,
} from './labelled.js';
export { mixTargets, type MixOptions, type MixturePart } from './mix.js';
export { TaidScheduler, type TaidOptions, type TaidState } from './taid.js';
