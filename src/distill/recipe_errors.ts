// What is wrong with a recipe, in words that name the field and the nearest legal name.
import type { ErrorObject } from 'ajv';
import { nearest } from '../errors.js';

/** '/stages/2/training' as 'stages[2].training'. */
function fieldPath(pointer: string, field?: string): string {
  const parts = pointer.split('/').slice(1);
  if (field !== undefined) parts.push(field);
  return parts.map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : i > 0 ? `.${part}` : part)).join('') || 'the recipe';
}

export function suggestion(wrong: string, legal: readonly string[]): string {
  const near = nearest(wrong, legal);
  return near === undefined ? `legal names are ${legal.join(', ')}` : `did you mean "${near}"?`;
}

// A misspelt field is both unknown and missing: the unknown one is said first, and the missing one only where no unknown explains it.
export function describeErrors(errors: readonly ErrorObject[], recipe: unknown): string[] {
  const unknown = errors.filter((e) => e.keyword === 'additionalProperties');
  const explained = new Set<string>();
  const texts: string[] = [];
  for (const error of unknown) {
    const wrong = (error.params as { additionalProperty: string }).additionalProperty;
    const legal = Object.keys((error.parentSchema?.['properties'] ?? {}) as object).filter((key) => key !== '$schema');
    const near = nearest(wrong, legal);
    if (near) explained.add(`${error.instancePath}/${near}`);
    const place = error.instancePath === '' ? 'the recipe' : fieldPath(error.instancePath);
    texts.push(`${place} has no field "${wrong}": ${suggestion(wrong, legal)}`);
  }
  // Of the forms that a field may have, one that is not meant says only that the kind differs.
  const meant = errors.filter((e) => e.keyword !== 'type' && e.keyword !== 'oneOf' && e.keyword !== 'const' && e.keyword !== 'enum');
  const isOtherForm = (error: ErrorObject): boolean =>
    error.schemaPath.includes('/oneOf/') &&
    ['type', 'const', 'enum'].includes(error.keyword) &&
    (meant.some((e) => e.instancePath === error.instancePath || e.instancePath.startsWith(`${error.instancePath}/`)) ||
      (error.keyword === 'type' && errors.some((e) => e.keyword === 'enum' && e.instancePath === error.instancePath)));
  for (const error of errors) {
    const path = error.instancePath;
    if (isOtherForm(error)) continue;
    const params = error.params as Record<string, unknown>;
    const was = `it is ${JSON.stringify(error.data) ?? 'absent'}`.slice(0, 120);
    if (error.keyword === 'additionalProperties' || error.keyword === 'oneOf' || error.keyword === 'if') continue;
    if (error.keyword === 'required') {
      const missing = params['missingProperty'] as string;
      if (!explained.has(`${path}/${missing}`)) texts.push(`${fieldPath(path, missing)} must be given: it is absent`);
    } else if (error.keyword === 'discriminator') {
      const tag = params['tag'] as string;
      const value = params['tagValue'];
      const legal = tagValues(error);
      const text =
        value === undefined
          ? `it is absent: legal values are ${legal.join(', ')}`
          : `it is ${JSON.stringify(value)}: ${suggestion(String(value), legal)}`;
      texts.push(`${fieldPath(path, tag)} must be one of the kinds there are: ${text}`);
    } else if (error.keyword === 'enum' || error.keyword === 'const') {
      const legal = (params['allowedValues'] ?? [params['allowedValue']]) as unknown[];
      const object = errors.find((e) => e.keyword === 'type' && e.instancePath === path && fieldsOf(e) !== '');
      const form = object === undefined ? '' : `, or an object${fieldsOf(object)}`;
      texts.push(
        `${fieldPath(path)} must be one of ${legal.join(', ')}${form}: ${was}${typeof error.data === 'string' && nearest(error.data, legal.map(String)) ? `, ${suggestion(error.data, legal.map(String))}` : ''}`,
      );
    } else if (error.keyword === 'pattern' || error.keyword === 'propertyNames') {
      const subject = error.propertyName ?? error.data;
      if (error.keyword === 'propertyNames') continue;
      texts.push(`${fieldPath(path)} must hold a name of letters, digits, "-" and "_": it is ${JSON.stringify(subject)}`);
    } else {
      texts.push(`${fieldPath(path)} ${plain(error)}: ${was}`);
    }
  }
  if (texts.length === 0) texts.push(`it must match the schema: it is ${JSON.stringify(recipe)?.slice(0, 80)}`);
  return [...new Set(texts)];
}

/** ajv's words in the ones used here. */
function plain(error: ErrorObject): string {
  const { keyword, params, message } = error;
  const { type, limit } = params as { type?: string; limit?: number };
  if (keyword === 'type')
    return `must be ${type === 'integer' ? 'a whole number' : `${/^[aeiou]/.test(type!) ? 'an' : 'a'} ${type}${fieldsOf(error)}`}`;
  if (keyword === 'minItems' || keyword === 'minProperties') return `must have at least ${limit} ${limit === 1 ? 'entry' : 'entries'}`;
  return message ?? 'must be legal';
}

/** ' { n, m }' where an object of few fields is wanted, else nothing. */
function fieldsOf({ params, parentSchema }: ErrorObject): string {
  const fields = Object.keys((parentSchema?.['properties'] ?? {}) as object);
  return (params as { type?: string }).type === 'object' && fields.length > 0 && fields.length <= 4 ? ` { ${fields.join(', ')} }` : '';
}

function tagValues(error: ErrorObject): string[] {
  const { tag } = error.params as { tag: string };
  const branches = (error.parentSchema?.['oneOf'] ?? []) as { properties?: Record<string, { const?: string; enum?: string[] }> }[];
  return branches.flatMap(({ properties }) => properties?.[tag]?.enum ?? properties?.[tag]?.const ?? []);
}
