// Targets on disk for data sets that do not fit in memory.
export { TargetCache, type CacheRowsOptions, type ShardInfo, type TargetCacheOptions } from './reader.js';
export { TargetCacheWriter, type FinishedShard, type TargetCacheWriterOptions } from './writer.js';
export { hashOf, type Hashable } from './hash.js';
export { exportParquet, importParquet, type ImportParquetOptions } from './parquet.js';
export type { CacheKind } from './settings.js';
