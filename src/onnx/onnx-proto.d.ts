// As much of the optional package onnx-proto as is used: types are checked where it is not installed, too.
declare module 'onnx-proto' {
  interface Message {
    create(fields: object): object;
    encode(message: object): { finish(): Uint8Array };
    decode(bytes: Uint8Array): object;
  }
  export const onnx: { ModelProto: Message };
}
