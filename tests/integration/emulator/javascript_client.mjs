// What test_npm_clients.py lets Apify's JavaScript client do. It prints what it got as one JSON object.
import { ApifyClient } from 'apify-client';

const client = new ApifyClient({ token: process.env.APIFY_TOKEN, baseUrl: process.env.APIFY_CLIENT_BASE_URL });
const scraper = client.actor('emulator/scraper');
const got = {};

// The input is long enough for the client to pack it.
const run = await scraper.call({ items: 4, text: 'x'.repeat(5000) }, { memory: 256, timeout: 60, log: null });
got.run = [run.status, run.options.memoryMbytes, run.options.timeoutSecs];
got.items = (await client.dataset(run.defaultDatasetId).listItems()).items.map((item) => item.title);
const store = client.keyValueStore(run.defaultKeyValueStoreId);
got.input = Object.keys((await store.getRecord('INPUT')).value);
got.output = (await store.getRecord('OUTPUT')).value;
got.nothing = (await store.getRecord('nothing')) ?? null;
got.log = (await client.run(run.id).log().get()).includes('Finished!');

const last = scraper.lastRun({ status: 'SUCCEEDED' });
got.last = [(await last.get()).id === run.id, (await last.dataset().listItems({ limit: 2 })).items.length];

const slow = client.run((await client.actor('~slow-run').start()).id);
got.aborted = [(await slow.abort()).status, (await slow.waitForFinish()).status];
got.resurrected = [(await slow.resurrect({ memory: 512 })).status, (await slow.waitForFinish()).status];

const task = client.task('emulator/ten-products');
got.task = [(await task.call({ items: 2 })).status, (await task.runs().list({ status: 'SUCCEEDED' })).total];
got.listed = (await client.runs().list({ status: 'SUCCEEDED', desc: true, startedAfter: new Date(0) })).items.length;

got.refused = await client.actor('~needs-input').start({}).catch(({ type, message }) => [type, message]);
got.valid = await client.actor('~needs-input').validateInput({ startUrls: [{ url: 'https://example.com' }] });

const build = client.build((await client.actor('~hello-world').build('0.0')).id);
got.build = (await build.waitForFinish()).status;

console.log(JSON.stringify(got));
