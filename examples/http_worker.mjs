// A worker over HTTP in JavaScript: needs an address, a key, and one file without dependencies.

import { Client, Worker } from '../clients/js/mech-queue.mjs';

const client = new Client(process.env.MECH_QUEUE_URL ?? 'http://localhost:3003', process.env.APPLICATION_API_KEY);
const worker = new Worker(client, { concurrency: 8 });

worker.queue('email', async (job) => {
  await job.progress(50);
  console.log('sending to', job.data.to);
  return { sent: job.data.to };
});

await worker.run(); // until SIGTERM or Ctrl-C; running jobs finish first
