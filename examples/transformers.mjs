// A teacher that is a causal language model, run by transformers.js: node examples/transformers.mjs onnx-community/Qwen2.5-0.5B "Some text"
import { pathToFileURL } from 'node:url';
import { AutoModelForCausalLM, AutoTokenizer, Tensor } from '@huggingface/transformers';
import { logitsTeacher } from 'limbeck/teachers';

/** Batches are arrays of token ids, row i predicts what follows token i. `options` are those of logitsTeacher. */
export function transformersTeacher(model, options) {
  const run = async (tokens) => {
    const dims = [1, tokens.length];
    const input_ids = new Tensor('int64', BigInt64Array.from(tokens, BigInt), dims);
    const attention_mask = new Tensor('int64', new BigInt64Array(tokens.length).fill(1n), dims);
    const { logits } = await model({ input_ids, attention_mask });
    return { data: logits.data, dims: logits.dims, type: logits.type };
  };
  return logitsTeacher(run, options);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [name, text] = process.argv.slice(2);
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const model = await AutoModelForCausalLM.from_pretrained(name, { dtype: 'fp32' });
  const teacher = transformersTeacher(model, { access: 'topk', k: 8, residual: 'tail_bucket' });
  for await (const { batch, target } of teacher.targets([tokenizer.encode(text)])) {
    batch.forEach((token, row) => {
      const best = target.indices.data[row * target.k];
      const share = Math.exp(target.logProbs.data[row * target.k]);
      console.log(JSON.stringify(tokenizer.decode([token])), '→', JSON.stringify(tokenizer.decode([best])), share.toFixed(3));
    });
  }
  await model.dispose();
}
