// The yardstick: the API of the original (Express in front of BullMQ, one Node process), as small and as
// fast as it can honestly be written: no logging, no rate limit, keys compared in memory.
//
//   PORT=… REDIS_URL=redis://… API_KEY=… node server.mjs
import { randomUUID } from 'node:crypto';
import { Queue, Worker } from 'bullmq';
import express from 'express';
import { Redis } from 'ioredis';

const { PORT, REDIS_URL, API_KEY } = process.env;
const connection = new Redis(REDIS_URL, { maxRetriesPerRequest: null });
const queues = new Map();
const workers = new Map();
const queueOfJob = new Map(); // the original keeps this in memory too

function queueNamed(name) {
  let queue = queues.get(name);
  if (!queue) queues.set(name, (queue = new Queue(name, { connection })));
  return queue;
}

function workerOf(name) {
  let worker = workers.get(name);
  if (!worker) workers.set(name, (worker = new Worker(name, null, { connection, autorun: false })));
  return worker;
}

async function view(job, status) {
  return {
    id: job.id,
    queue: job.queueName,
    status: status ?? (await job.getState()),
    data: job.data.data,
    metadata: job.data.metadata,
    result: job.returnvalue,
    progress: job.progress,
    timestamps: { submitted: new Date(job.timestamp).toISOString() },
  };
}

const app = express();
app.disable('x-powered-by');
app.use(express.json());
app.use((req, res, next) =>
  req.headers['x-api-key'] === API_KEY ? next() : res.status(401).json({ success: false }),
);

app.post('/api/jobs', async (req, res) => {
  const { queue, data, metadata = {}, webhooks = {} } = req.body;
  if (typeof queue !== 'string' || data === undefined) return res.status(400).json({ success: false });
  const jobId = randomUUID();
  queueOfJob.set(jobId, queue);
  await queueNamed(queue).add('job', { data, metadata, webhooks }, { jobId });
  res.status(201).json({ success: true, jobId, message: `Job submitted to ${queue} queue` });
});

app.get('/api/jobs/:id', async (req, res) => {
  const queue = queueOfJob.get(req.params.id);
  const job = queue && (await queueNamed(queue).getJob(req.params.id));
  if (!job) return res.status(404).json({ success: false });
  res.json({ success: true, job: await view(job) });
});

app.get('/api/jobs', async (req, res) => {
  const { queue, status = 'waiting', limit = '100', ...rest } = req.query;
  const wanted = Object.entries(rest).map(([name, value]) => [name.replace(/^metadata\./, ''), value]);
  // As the original does: the limit first, then the filters. (Ours filters first, which is more work.)
  const jobs = await queueNamed(queue).getJobs([status], 0, Number(limit) - 1);
  const found = jobs.filter((job) => wanted.every(([name, value]) => String(job.data.metadata[name]) === value));
  const page = await Promise.all(found.map((job) => view(job, status)));
  res.json({ success: true, jobs: page, count: page.length });
});

app.post('/api/queues/:queue/claim', async (req, res) => {
  const token = randomUUID();
  const jobs = [];
  while (jobs.length < (req.body.limit ?? 1)) {
    const job = await workerOf(req.params.queue).getNextJob(token, { block: false });
    if (!job) break;
    jobs.push({ ...(await view(job, 'active')), leaseToken: token });
  }
  res.json({ success: true, jobs });
});

async function complete(id, { result, leaseToken }) {
  const job = await queueNamed(queueOfJob.get(id)).getJob(id);
  await job.moveToCompleted(result ?? null, leaseToken, false);
}

app.put('/api/jobs/:id', async (req, res) => {
  await complete(req.params.id, req.body);
  res.json({ success: true, message: `Job ${req.params.id} updated` });
});

app.post('/api/jobs/updates', async (req, res) => {
  await Promise.all(req.body.updates.map((one) => complete(one.jobId, one)));
  res.json({ success: true, results: req.body.updates.map(() => ({ success: true })) });
});

app.listen(Number(PORT), '127.0.0.1', () => console.log('ready'));
