// `npm run docs`: the documentation site in build/site: guides, the pages of docs/ and the API, with search; fails where a link leads nowhere.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Application, Converter } from 'typedoc';
import { root } from './counts.mjs';

/** Folders of docs/ and the headings of the navigation that their pages stand under, in this order. */
const GROUPS = {
  guides: 'Guides',
  studies: 'Studies',
  teachers: 'Teachers',
  targets: 'Targets',
  divergences: 'Divergences',
  residuals: 'Residuals',
  losses: 'Other losses',
  '.': 'Overviews',
};

/** The first page of docs/, what it links to in that order, and whatever is left. */
function pagesInOrder() {
  const all = readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.md'));
  const linked = [...readFileSync(path.join(root, 'docs', 'index.md'), 'utf8').matchAll(/\]\(([\w/]+\.md)/g)].map((match) => match[1]);
  const pages = new Set(['index.md', ...linked.filter((file) => all.includes(file)), ...all.sort()]);
  return [...[...pages].map((file) => `docs/${file}`), 'CHANGELOG.md'];
}

/** A page is named by its heading, as far as a colon, and grouped by its folder. */
function placed(app, page) {
  const file = path.relative(path.join(root, 'docs'), app.files.getReflectionPath(page));
  const folder = path.dirname(file);
  page.frontmatter.group = folder in GROUPS ? GROUPS[folder] : GROUPS['.'];
  const title = /^\s*# ([^:\n]+)/.exec(page.content.map((part) => part.text).join(''))?.[1];
  if (title === undefined) throw new Error(`Cannot build the site: docs/${file} must begin with a heading`);
  page.name = title.replaceAll('`', '').trim();
}

/** Links and pictures of the pages that lead to no file or to no heading of one. */
function deadLinks(folder) {
  const pages = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.html'));
  const anchors = new Map(
    pages.map((file) => [
      file,
      new Set([...readFileSync(path.join(folder, file), 'utf8').matchAll(/ (?:id|name)="([^"]+)"/g)].map((match) => match[1])),
    ]),
  );
  const dead = [];
  let count = 0;
  for (const file of pages) {
    for (const [, encoded] of readFileSync(path.join(folder, file), 'utf8').matchAll(/ (?:href|src)="([^"]*)"/g)) {
      const link = encoded.replaceAll('&amp;', '&');
      if (/^(https?:|data:|mailto:)/.test(link)) continue;
      count++;
      const [to, anchor] = link.split('#');
      const target = to === '' ? file : path.join(path.dirname(file), decodeURIComponent(to.split('?')[0]));
      if (!existsSync(path.join(folder, target))) dead.push(`${file}: ${link}`);
      else if (anchor && anchors.has(target) && !anchors.get(target).has(decodeURIComponent(anchor))) dead.push(`${file}: ${link}`);
    }
  }
  return { dead, count, pages: pages.length };
}

const app = await Application.bootstrapWithPlugins({
  projectDocuments: pagesInOrder(),
  groupOrder: [...Object.values(GROUPS), '*'],
});
app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, page) => placed(app, page));
const project = await app.convert();
if (project === undefined) process.exit(1);
// The site puts the project's name above the page already.
const [first] = project.readme ?? [];
if (first !== undefined) first.text = first.text.replace(/^\s*# .*\n/, '');
app.validate(project);
await app.generateOutputs(project);
const folder = app.options.getValue('out');
const { dead, count, pages } = deadLinks(folder);
for (const line of dead) console.error(`dead link in ${line}`);
console.log(`${pages} pages in ${path.relative(root, folder)}, ${count} links within them, ${dead.length} dead`);
if (dead.length > 0 || app.logger.hasErrors()) process.exitCode = 1;
