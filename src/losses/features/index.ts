// Losses on features: what a student's hidden states have of a teacher's.
export { featureCosine, featureHuber, featureMse, type FeatureHuberOptions, type FeatureMseOptions } from './distance.js';
export type { FeatureLossOptions } from './pairs.js';
export { FeatureProjector, type FeatureProjectorOptions } from './projector.js';
export { gramLoss, type GramLossOptions } from './gram.js';
export { relationKd, type RelationKdOptions } from './relation.js';
export { cka, ckaLoss } from './cka.js';
export { attentionRelationLoss, type AttentionRelationOptions } from './attention_relation.js';
