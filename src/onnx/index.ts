/**
 * ONNX files from modules: `exportOnnx`, through the optional package onnx-proto.
 *
 * @module limbeck/onnx
 */
export { exportOnnx, type ExportedOnnx, type ExportOnnxOptions } from './export.js';
export {
  onnxTranslation,
  type OnnxAttribute,
  type OnnxBuilder,
  type OnnxExtent,
  type OnnxTranslated,
  type OnnxType,
  type OnnxValue,
} from './builder.js';
