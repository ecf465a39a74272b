// The parts of each kind of model: perceptrons and other chains of layers, convolutional networks, GPTs, and those with more heads.
import { kindError, phrase } from '../errors.js';
import {
  AvgPool2d,
  CNN,
  Conv2d,
  Dropout,
  DualHead,
  Flatten,
  GELU,
  GlobalAvgPool2d,
  GPT,
  Linear,
  MaxPool2d,
  MLP,
  MultiExit,
  ReLU,
  Sequential,
  SiLU,
  Tanh,
  type CNNConfig,
  type DualHeadConfig,
  type GPTBlockConfig,
  type GPTConfig,
  type LayerNorm,
  type MLPConfig,
  type ModelConfig,
  type Module,
  type MultiExitConfig,
} from '../nn/index.js';
import { range, type PartGroup, type Slice, type Structure } from './parts.js';

/** The groups of parts of a model. @throws TypeError for a model that has no such parts */
export function partGroups(model: Module, structure: Structure): PartGroup[] {
  const groups = allGroups(model);
  const found = groups.filter((group) => group.structure === structure);
  if (found.length > 0) return found;
  const there = [...new Set(groups.map((group) => group.structure))];
  throw kindError(
    'prune',
    `the model must have ${structure} that can be taken out`,
    phrase(
      `it is a ${model.constructor.name.replace(/^_/, '')}${there.length > 0 ? `, which has ${there.join(', ')}` : ', of which nothing can be taken out'}`,
    ),
  );
}

function allGroups(model: Module): PartGroup[] {
  if (model instanceof Sequential) return chainGroups(chainOf(model), noConfig);
  if (model instanceof MLP) return mlpGroups(model, '');
  if (model instanceof CNN) return cnnGroups(model, '');
  if (model instanceof GPT) return gptGroups(model, '');
  if (model instanceof MultiExit) return multiExitGroups(model);
  if (model instanceof DualHead) return dualHeadGroups(model);
  return [];
}

// ---- a layer that makes parts and the next one, which reads them

interface Place<M> {
  name: string;
  layer: M;
}

type Resize = PartGroup['resize'];

const noConfig: () => Resize = () => () => undefined;

const makes = (parameter: string): Slice => ({ parameter, role: 'makes', axis: 0, offsets: [0], size: 1 });
const reads = (parameter: string, size = 1): Slice => ({ parameter, role: 'reads', axis: 1, offsets: [0], size });

function weightAndBias({ name, layer }: Place<Linear | Conv2d>): Slice[] {
  return [makes(`${name}.weight`), ...(layer.bias === null ? [] : [makes(`${name}.bias`)])];
}

/** The outputs of one layer, read by another: units of a Linear, channels of a Conv2d. */
function between(maker: Place<Linear | Conv2d>, reader: Place<Linear | Conv2d>, resize: Resize): PartGroup {
  const count = maker.layer.weight.shape[0]!;
  const isImage = reader.layer instanceof Conv2d;
  // A Linear that reads flattened images has height·width columns for each channel.
  const size = isImage ? 1 : reader.layer.weight.shape[1]! / count;
  return {
    name: maker.name,
    structure: maker.layer instanceof Conv2d ? 'channels' : 'units',
    count,
    slices: [...weightAndBias(maker), reads(`${reader.name}.weight`, size)],
    seen: [{ kind: 'values', module: reader.layer, at: 'input', axis: isImage ? 'channels' : 'last', size }],
    resize,
  };
}

// ---- chains

/** The modules of nested Sequentials one after the other, with their names. */
function chainOf(model: Sequential, prefix = ''): Place<Module>[] {
  return model.layers.flatMap((layer, i): Place<Module>[] => {
    const name = `${prefix}layers.${i}`;
    return layer instanceof Sequential ? chainOf(layer, `${name}.`) : [{ name, layer }];
  });
}

const elementwise = [ReLU, GELU, SiLU, Tanh, Dropout];
const pools = [MaxPool2d, AvgPool2d];
const isOneOf = (layer: Module, classes: readonly (abstract new (...given: never[]) => Module)[]): boolean =>
  classes.some((each) => layer instanceof each);

function chainGroups(chain: readonly Place<Module>[], resizeOf: (index: number) => Resize): PartGroup[] {
  const groups: PartGroup[] = [];
  let maker: Place<Linear | Conv2d> | null = null;
  let isImage = false;
  for (const { name, layer } of chain) {
    if (layer instanceof Linear || layer instanceof Conv2d) {
      const readsImages = layer instanceof Conv2d;
      if (maker !== null && isImage === readsImages) groups.push(between(maker, { name, layer }, resizeOf(groups.length)));
      maker = { name, layer };
      isImage = readsImages;
    } else if (layer instanceof Flatten || layer instanceof GlobalAvgPool2d) isImage = false;
    else if (!isOneOf(layer, isImage ? [...elementwise, ...pools] : elementwise)) maker = null;
  }
  return groups;
}

function mlpGroups(model: MLP, prefix: string): PartGroup[] {
  return chainGroups(
    model.layers.map((layer, i) => ({ name: `${prefix}layers.${i}`, layer })),
    (index) => (config, parts) => void ((config as MLPConfig).hidden[index] = parts.length),
  );
}

function cnnGroups(model: CNN, prefix: string): PartGroup[] {
  const { convolutions, hidden, output } = model;
  const layers: Place<Linear | Conv2d>[] = [
    ...convolutions.map((layer, i) => ({ name: `${prefix}convolutions.${i}`, layer })),
    ...hidden.map((layer, i) => ({ name: `${prefix}hidden.${i}`, layer })),
    { name: `${prefix}output`, layer: output },
  ];
  return layers.slice(0, -1).map((maker, i) =>
    between(maker, layers[i + 1]!, (config, parts) => {
      const { channels, hidden: widths } = config as CNNConfig;
      if (i < channels.length) channels[i] = parts.length;
      else widths![i - channels.length] = parts.length;
    }),
  );
}

// ---- GPT

function gptGroups(model: GPT, prefix: string): PartGroup[] {
  const blocks = model.blocks.map((block, b) => ({ name: `${prefix}blocks.${b}`, block, b }));
  const blockOf = (config: ModelConfig, b: number): GPTBlockConfig => (config as GPTConfig).blocks![b]!;
  const units = blocks.map(({ name, block, b }) =>
    between({ name: `${name}.up`, layer: block.up }, { name: `${name}.down`, layer: block.down }, (config, parts) => {
      blockOf(config, b).mlpWidth = parts.length;
    }),
  );
  const heads = blocks.map(({ name, block: { attention }, b }): PartGroup => {
    const { headWidth: size, qkv, projection } = attention;
    const inner = attention.heads * size;
    const own = { role: 'makes', axis: 0, offsets: [0, inner, 2 * inner], size } as const;
    return {
      name: `${name}.attention`,
      structure: 'heads',
      count: attention.heads,
      slices: [
        { parameter: `${name}.attention.qkv.weight`, ...own },
        ...(qkv.bias === null ? [] : [{ parameter: `${name}.attention.qkv.bias`, ...own }]),
        reads(`${name}.attention.projection.weight`, size),
      ],
      seen: [{ kind: 'values', module: projection, at: 'input', axis: 'last', size }],
      resize: (config, parts) => {
        blockOf(config, b).heads = parts.length;
      },
    };
  });
  return [...units, ...heads, layersOf(model, prefix), widthOf(model, prefix)];
}

function layersOf(model: GPT, prefix: string): PartGroup {
  const start = `${prefix}blocks.`;
  const slices = model.blocks.flatMap((block, part) =>
    [...block.namedParameters(`${start}${part}.`)].map(([parameter]): Slice => {
      // What a block adds to the residual stream comes from these two.
      const role = /\.(projection|down)\.\w+$/.test(parameter) ? 'makes' : 'reads';
      return { parameter, role, part };
    }),
  );
  return {
    name: `${prefix}blocks`,
    structure: 'layers',
    count: model.blocks.length,
    slices,
    seen: [{ kind: 'between', modules: [...model.blocks.map((block) => block.norm1), model.norm] }],
    resize: (config, parts) => {
      const gpt = config as GPTConfig;
      gpt.blocks = parts.map((part) => gpt.blocks![part]!);
    },
    renamed: (parameter, parts) => {
      if (!parameter.startsWith(start)) return parameter;
      const [number, ...rest] = parameter.slice(start.length).split('.');
      const place = parts.indexOf(Number(number));
      return place < 0 ? null : `${start}${place}.${rest.join('.')}`;
    },
  };
}

/** The residual stream: a channel of it is a column of the embeddings and a row or column of all that reads or writes it. */
function widthOf(model: GPT, prefix: string): PartGroup {
  const norm = (name: string): Slice[] => [makes(`${name}.weight`), makes(`${name}.bias`)];
  const embedded = (name: string): Slice => ({ ...reads(`${name}.weight`), role: 'makes' });
  const slices = [
    embedded(`${prefix}tokens`),
    embedded(`${prefix}positions`),
    ...norm(`${prefix}norm`),
    ...(model.head === null ? [] : [reads(`${prefix}head.weight`)]),
    ...model.blocks.flatMap(({ attention, down }, b) => {
      const name = `${prefix}blocks.${b}`;
      return [
        ...norm(`${name}.norm1`),
        reads(`${name}.attention.qkv.weight`),
        ...weightAndBias({ name: `${name}.attention.projection`, layer: attention.projection }),
        ...norm(`${name}.norm2`),
        reads(`${name}.up.weight`),
        ...weightAndBias({ name: `${name}.down`, layer: down }),
      ];
    }),
  ];
  const norms: LayerNorm[] = [...model.blocks.flatMap(({ norm1, norm2 }) => [norm1, norm2]), model.norm];
  return {
    name: `${prefix}width`,
    structure: 'width',
    count: model.hiddenWidth,
    slices,
    seen: norms.map((module) => ({ kind: 'values', module, at: 'output', axis: 'last', size: 1 })),
    resize: (config, parts) => {
      (config as GPTConfig).width = parts.length;
    },
  };
}

// ---- more heads

function innerGroups(model: MultiExit | DualHead): PartGroup[] {
  const { model: inner } = model;
  const groups =
    inner instanceof MLP
      ? mlpGroups(inner, 'model.')
      : inner instanceof CNN
        ? cnnGroups(inner, 'model.')
        : inner instanceof GPT
          ? gptGroups(inner, 'model.')
          : [];
  return groups.map((group) => ({
    ...group,
    resize: (config, parts) => group.resize((config as MultiExitConfig<ModelConfig> | DualHeadConfig<ModelConfig>).model, parts),
  }));
}

/** The groups that make the features of an MLP or CNN come first in their order; every feature of a GPT is its width. */
function multiExitGroups(model: MultiExit): PartGroup[] {
  const groups = innerGroups(model).filter(({ structure }) => structure !== 'layers');
  const isGpt = model.model instanceof GPT;
  return groups.map((group, g) => {
    const heads = range(model.heads.length).filter((i) => (isGpt ? group.structure === 'width' : model.exits[i] === g));
    const added = heads.flatMap((i) => {
      const norm = model.heads[i]!.norm === null ? [] : [makes(`heads.${i}.norm.weight`), makes(`heads.${i}.norm.bias`)];
      return [...norm, reads(`heads.${i}.output.weight`)];
    });
    return { ...group, slices: [...group.slices, ...added] };
  });
}

/** The second head reads what the first one does: the last units or channels, or the width. */
function dualHeadGroups(model: DualHead): PartGroup[] {
  const groups = innerGroups(model);
  const isGpt = model.model instanceof GPT;
  return groups.map((group, g) => {
    const isRead = isGpt ? group.structure === 'width' : g === groups.length - 1;
    if (!isRead) return group;
    return { ...group, slices: [...group.slices, reads('second.weight', model.second.weight.shape[1]! / group.count)] };
  });
}
