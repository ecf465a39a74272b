// A teacher that is a GGUF model, run by node-llama-cpp: node examples/llama.mjs model.gguf "Some text"
import { pathToFileURL } from 'node:url';
import { getLlama } from 'node-llama-cpp';
import { logitsTeacher } from 'limbeck/teachers';

/** Batches are arrays of token ids, row i predicts what follows token i. `options` are those of logitsTeacher. */
export async function llamaTeacher(modelPath, options) {
  const llama = await getLlama();
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext();
  const sequence = context.getSequence();
  const cols = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
  const run = async (tokens) => {
    await sequence.clearHistory();
    // Without sampling options, which would cut the probabilities to those of the best 40 or fewer.
    const places = await sequence.controlledEvaluate(tokens.map((token) => [token, { generateNext: { probabilities: true } }]));
    const data = new Float32Array(tokens.length * cols);
    places.forEach((place, row) => {
      for (const [id, probability] of place.next.probabilities) data[row * cols + id] = probability;
    });
    return { data, dims: [tokens.length, cols] };
  };
  return { teacher: logitsTeacher(run, { ...options, values: 'probs' }), model, dispose: () => llama.dispose() };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [path, text] = process.argv.slice(2);
  const { teacher, model, dispose } = await llamaTeacher(path, { access: 'topk', k: 8, residual: 'tail_bucket' });
  for await (const { batch, target } of teacher.targets([model.tokenize(text)])) {
    batch.forEach((token, row) => {
      const best = target.indices.data[row * target.k];
      const share = Math.exp(target.logProbs.data[row * target.k]);
      console.log(JSON.stringify(model.detokenize([token])), '→', JSON.stringify(model.detokenize([best])), share.toFixed(3));
    });
  }
  await dispose();
}
