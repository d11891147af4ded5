/**
 * mech-queue for JavaScript: client, polling worker and signature check in one file without dependencies.
 * Runs where `fetch` and WebCrypto are: Node 20 or newer, Deno, Bun, browsers (keys do not belong there).
 *
 *     import { Client, Worker, verify } from './mech-queue.mjs';
 *
 *     const client = new Client('http://localhost:3003', 'sk_…');
 *     const job = await client.submit('email', { to: 'user@example.com' }, { metadata: { customerId: 'c-1' } });
 *     console.log((await job.wait({ timeoutMs: 60_000 })).result);
 */

/**
 * @typedef {object} Job A job as it was when it was read.
 * @property {string} id
 * @property {string} queue
 * @property {string} task
 * @property {'waiting'|'delayed'|'active'|'completed'|'failed'|'cancelled'} status
 * @property {any} data
 * @property {Record<string, any>} metadata
 * @property {any} result
 * @property {any} error
 * @property {string|null} errorCode
 * @property {any} progress
 * @property {number} attempt
 * @property {Record<string, string|null>} timestamps
 *
 * @typedef {object} SubmitOptions
 * @property {Record<string, any>} [metadata]
 * @property {Record<string, string>} [webhooks] event -> URL
 * @property {string} [task] name of a native Celery task
 * @property {Record<string, any>} [options] priority, delay, attempts, backoff, … as the API documents them
 * @property {string} [idempotencyKey] default: one of its own for every call
 *
 * @typedef {object} TakenJob A job whose lease this process holds.
 * @property {string} id
 * @property {string} queue
 * @property {string} leaseToken
 * @property {any} data
 * @property {Record<string, any>} metadata
 * @property {number} attempt
 */

const RETRIES = 4;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
const LONGEST_WAIT_S = 30;
const ENDED = new Set(['completed', 'failed', 'cancelled']);
const PASSING = new Set([502, 503, 504]);
const GONE = new Set(['LEASE_LOST', 'JOB_ENDED', 'JOB_CANCELLED', 'NOT_FOUND', 'JOB_TAKEN']);
const HOPELESS = new Set(['UNAUTHENTICATED', 'FORBIDDEN', 'QUEUE_NOT_ALLOWED', 'INVALID']);

/** The service said no. `code` says why, `details` names the fields. */
export class Refusal extends Error {
  /** @param {number} status @param {any} body @param {number|null} retryAfterMs */
  constructor(status, body, retryAfterMs = null) {
    const whose = PASSING.has(status) ? '' : ': is this the address of mech-queue?';
    super(body?.error ?? `HTTP ${status} without the service's own body${whose}`);
    this.name = 'Refusal';
    this.status = status;
    /** @type {string} */
    this.code = body?.code ?? (PASSING.has(status) ? 'STORE_UNAVAILABLE' : 'INTERNAL');
    this.details = body?.details ?? {};
    this.requestId = body?.requestId ?? null;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The service said nothing. What was asked may have happened or not. */
export class Unreachable extends Error {
  /** @param {string} message @param {unknown} cause */
  constructor(message, cause) {
    super(message, { cause });
    this.name = 'Unreachable';
  }
}

/** Throw it in a handler for a failure that no repetition can mend. */
export class PermanentFailure extends Error {
  /** @param {string} message @param {any} [error] the job's error, any JSON value; default: the message */
  constructor(message, error = message) {
    super(message);
    this.name = 'PermanentFailure';
    this.error = error;
  }
}

/** @param {number} ms @param {AbortSignal} [signal] resolves early when it fires */
const sleep = (ms, signal) =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve(undefined);
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve(undefined);
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
  });

/** @param {number} attempt @param {number|null} [wished] ms */
const pause = (attempt, wished) =>
  Math.max(
    Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt) * (0.5 + Math.random() / 2),
    Math.min(wished ?? 0, 60_000),
  );

/** A name as one part of a path. @param {string} text */
const part = (text) => {
  if (!text) throw new TypeError('an id or a name must not be empty');
  return encodeURIComponent(text);
};

/** One service, one API key. */
export class Client {
  /**
   * @param {string} url
   * @param {string} apiKey
   * @param {{applicationId?: string, timeoutMs?: number, retries?: number}} [options]
   */
  constructor(url, apiKey, { applicationId, timeoutMs = 30_000, retries = RETRIES } = {}) {
    if (!/^https?:\/\//.test(url))
      throw new TypeError(`the service's address must start with http:// or https://, not ${url}`);
    this.url = url.replace(/\/+$/, '');
    this.timeoutMs = timeoutMs;
    this.retries = retries;
    /** @type {Record<string, string>} */
    this.headers = { 'x-api-key': apiKey, ...(applicationId && { 'X-Application-Id': applicationId }) };
  }

  /**
   * Any call of the API; the methods below are made of it. `safe`: a repetition changes nothing, so a lost
   * answer is asked for again (default: for GET only).
   * @param {string} method
   * @param {string} path
   * @param {any} [body]
   * @param {{safe?: boolean, headers?: Record<string, string>, waitMs?: number}} [options]
   * @returns {Promise<any>}
   */
  async request(method, path, body, { safe = method === 'GET', headers = {}, waitMs = 0 } = {}) {
    const sent = body === undefined ? undefined : JSON.stringify(body); // here, since what is no JSON was never sent
    for (let attempt = 0; ; attempt++) {
      const last = attempt >= this.retries;
      let answer, text;
      try {
        answer = await fetch(this.url + path, {
          method,
          headers: {
            ...this.headers,
            ...(body !== undefined && { 'Content-Type': 'application/json' }),
            ...headers,
          },
          body: sent,
          redirect: 'manual',
          signal: AbortSignal.timeout(this.timeoutMs + waitMs),
        });
        text = await answer.text();
      } catch (error) {
        const { cause, message } = /** @type {any} */ (error);
        const neverSent = cause?.code === 'ECONNREFUSED';
        if (last || !(safe || neverSent)) {
          throw new Unreachable(`no answer from ${this.url}: ${cause?.code ?? cause?.message ?? message}`, error);
        }
        await sleep(pause(attempt));
        continue;
      }
      const found = parse(text);
      if (answer.ok && found !== undefined) return found;
      const seconds = Number(answer.headers.get('Retry-After') ?? NaN);
      const refusal = new Refusal(answer.status, found, seconds >= 0 ? seconds * 1000 : null);
      const again = refusal.code === 'RATE_LIMITED' || (safe && PASSING.has(answer.status));
      if (last || !again) throw refusal;
      await sleep(pause(attempt, refusal.retryAfterMs));
    }
  }

  /**
   * Submit one job. Safe to repeat: a lost answer never makes a second job.
   * @param {string} queue
   * @param {any} data
   * @param {SubmitOptions} [more]
   * @returns {Promise<JobHandle>}
   */
  async submit(queue, data, { idempotencyKey = crypto.randomUUID(), ...more } = {}) {
    const headers = { 'Idempotency-Key': idempotencyKey };
    const found = await this.request('POST', '/api/jobs', { queue, data, ...more }, { safe: true, headers });
    return new JobHandle(this, found.jobId, found.deduplicated === true);
  }

  /**
   * Submit up to 1,000 jobs in one request: per job its handle or its refusal, in order.
   * @param {object[]} jobs
   * @returns {Promise<(JobHandle|Refusal)[]>}
   */
  async submitMany(jobs) {
    const { results } = await this.request('POST', '/api/jobs/batch', { jobs });
    return results.map((/** @type {any} */ one) =>
      one.success ? new JobHandle(this, one.jobId, one.deduplicated === true) : new Refusal(422, one),
    );
  }

  /** A handle on a job whose id you kept. @param {string} id */
  job(id) {
    return new JobHandle(this, id);
  }

  /**
   * Every job that fits, page by page.
   * @param {{queue?: string, status?: string|string[], metadata?: Record<string, any>, task?: string,
   *   submittedAfter?: string, submittedBefore?: string, order?: 'asc'|'desc', pageSize?: number}} [filter]
   * @returns {AsyncGenerator<Job>}
   */
  async *jobs({ metadata = {}, pageSize = 100, ...filter } = {}) {
    const query = new URLSearchParams({ limit: String(pageSize) });
    for (const [name, value] of Object.entries(filter)) if (value !== undefined) query.set(name, String(value));
    for (const [name, value] of Object.entries(metadata))
      query.set(`metadata.${name}`, typeof value === 'string' ? `"${value}"` : String(value));
    for (;;) {
      const page = await this.request('GET', `/api/jobs?${query}`);
      yield* page.jobs;
      if (!page.nextCursor) return;
      query.set('cursor', page.nextCursor);
    }
  }

  /**
   * Take up to `limit` jobs of one or several queues. Carries a nonce: a lost answer leaves no job behind.
   * @param {string|string[]} queues
   * @param {{limit?: number, wait?: number, leaseSeconds?: number, workerId?: string}} [options] wait in s
   * @returns {Promise<TakenJob[]>}
   */
  async claim(queues, options = {}) {
    const body = { limit: 1, ...options, nonce: crypto.randomUUID() };
    const several = Array.isArray(queues);
    const path = several ? '/api/queues/claim' : `/api/queues/${part(queues)}/claim`;
    const sent = several ? { ...body, queues } : body;
    return (await this.request('POST', path, sent, { safe: true, waitMs: (options.wait ?? 0) * 1000 })).jobs;
  }

  /**
   * Report `started`, `progress`, `completed` or `failed`.
   * @param {string} id
   * @param {{status: string, progress?: any, result?: any, error?: any, metadata?: object, retry?: boolean,
   *   leaseToken?: string}} report
   */
  update(id, report) {
    const safe = report.leaseToken !== undefined && ['completed', 'failed'].includes(report.status);
    return this.request('PUT', `/api/jobs/${part(id)}`, report, { safe });
  }

  /** Renew a lease. @param {string} id @param {string} leaseToken @param {number} [leaseSeconds] */
  heartbeat(id, leaseToken, leaseSeconds) {
    const body = { leaseToken, leaseSeconds };
    return this.request('POST', `/api/jobs/${part(id)}/heartbeat`, body, { safe: true });
  }

  /** Be told by signed webhook of every job that fits; the answer holds the secret, once. @param {object} what */
  async subscribe(what) {
    return (await this.request('POST', '/api/subscriptions', what)).subscription;
  }
}

/** A job's id and what can be done with it. */
export class JobHandle {
  /** @param {Client} client @param {string} id @param {boolean} [deduplicated] */
  constructor(client, id, deduplicated = false) {
    this.client = client;
    this.id = id;
    /** A job with the same `dedupeKey` was there already; this is that one. */
    this.deduplicated = deduplicated;
  }

  /** The job as it is now. @param {{wait?: number}} [options] wait: s, ≤ 30 @returns {Promise<Job>} */
  async get({ wait = 0 } = {}) {
    const query = wait ? `?wait=${wait}` : '';
    const options = { waitMs: wait * 1000 };
    return (await this.client.request('GET', `/api/jobs/${part(this.id)}${query}`, undefined, options)).job;
  }

  /**
   * Wait until it has ended, well or badly: look at `status`.
   * @param {{timeoutMs?: number}} [options] throws an Error named TimeoutError after that long
   * @returns {Promise<Job>}
   */
  async wait({ timeoutMs = Infinity } = {}) {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const asked = Date.now();
      const left = Math.max(0, Math.min(LONGEST_WAIT_S, Math.floor((end - asked) / 1000)));
      const job = await this.get({ wait: left });
      if (ENDED.has(job.status)) return job;
      if (Date.now() >= end) {
        const error = new Error(`job ${this.id} is ${job.status} after ${timeoutMs} ms`);
        error.name = 'TimeoutError';
        throw error;
      }
      if (Date.now() - asked < 1000) await sleep(Math.min(500, Math.max(0, end - Date.now())));
    }
  }

  /** End it at once. */
  cancel() {
    return this.client.request('POST', `/api/jobs/${part(this.id)}/cancel`);
  }

  /** Run an ended job again. */
  retry() {
    return this.client.request('POST', `/api/jobs/${part(this.id)}/retry`);
  }
}

/**
 * Works off queues until it is stopped.
 *
 *     const worker = new Worker(client, { concurrency: 4 });
 *     worker.queue('email', async (job) => { await job.progress(50); return { sent: job.data.to }; });
 *     await worker.run();
 *
 * What a handler returns is the job's result, what it throws is a failure. `job.signal` fires when the job
 * was cancelled or its lease was lost: hand it to `fetch` and the like.
 */
export class Worker {
  /**
   * @param {Client} client
   * @param {{concurrency?: number, leaseSeconds?: number, pollSeconds?: number, workerId?: string,
   *   onError?: (error: unknown, job?: TakenJob) => void}} [options]
   */
  constructor(client, { concurrency = 4, leaseSeconds = 60, pollSeconds = 5, workerId, onError } = {}) {
    this.client = client;
    this.concurrency = concurrency;
    this.leaseSeconds = leaseSeconds;
    this.pollSeconds = pollSeconds;
    this.workerId = workerId ?? `js-${globalThis.process?.pid ?? ''}-${crypto.randomUUID().slice(0, 8)}`;
    this.onError =
      onError ?? ((error, job) => console.error(...(job ? [`job ${job.id} of ${job.queue} failed`] : []), error));
    /** @type {Map<string, (job: RunningJob) => any>} */
    this.handlers = new Map();
    /** @type {Set<Promise<void>>} */
    this.running = new Set();
    this.stopping = new AbortController();
  }

  /** Run this handler for the jobs of a queue. @param {string} name @param {(job: RunningJob) => any} handler */
  queue(name, handler) {
    if (typeof handler !== 'function') throw new TypeError(`the handler of ${name} is no function`);
    this.handlers.set(name, handler);
    return this;
  }

  /** Take no more jobs; `run` resolves when the running ones have ended and are reported. */
  stop() {
    this.stopping.abort();
  }

  /** Work until `stop`, or (in Node) SIGTERM or SIGINT. Rejects when the key may not work at all. */
  async run() {
    const stop = () => this.stop();
    const process = globalThis.process;
    process?.once?.('SIGTERM', stop);
    process?.once?.('SIGINT', stop);
    try {
      await this.#claimUntilStopped();
    } finally {
      this.stop();
      await Promise.all(this.running);
      process?.off?.('SIGTERM', stop);
      process?.off?.('SIGINT', stop);
    }
  }

  async #claimUntilStopped() {
    let failures = 0;
    while (!this.stopping.signal.aborted) {
      const free = this.concurrency - this.running.size;
      if (free <= 0) {
        await Promise.race(this.running);
        continue;
      }
      try {
        const taken = await this.client.claim([...this.handlers.keys()], {
          limit: Math.min(free, 100),
          wait: this.pollSeconds,
          leaseSeconds: this.leaseSeconds,
          workerId: this.workerId,
        });
        failures = 0;
        for (const job of taken) this.#begin(job);
      } catch (error) {
        if (error instanceof Refusal && HOPELESS.has(error.code)) throw error;
        this.onError(error);
        const wished = error instanceof Refusal ? error.retryAfterMs : null;
        await sleep(pause(failures++, wished), this.stopping.signal);
      }
    }
  }

  /** @param {TakenJob} taken */
  #begin(taken) {
    const work = this.#work(taken).catch((error) => this.onError(error, taken));
    const promise = work.finally(() => this.running.delete(promise));
    this.running.add(promise);
  }

  /** @param {TakenJob} taken */
  async #work(taken) {
    const job = new RunningJob(this.client, taken);
    const renewing = setInterval(() => job.renew(this.leaseSeconds), (this.leaseSeconds * 1000) / 3);
    try {
      const report = await this.#outcome(job);
      if (!job.signal.aborted) await this.#report(job, report);
    } finally {
      clearInterval(renewing);
    }
  }

  /** @param {RunningJob} job @returns {Promise<any>} */
  async #outcome(job) {
    try {
      const result = await this.handlers.get(job.queue)?.(job);
      return { status: 'completed', result: result === undefined ? null : result };
    } catch (error) {
      if (!job.signal.aborted) this.onError(error, job.taken);
      if (error instanceof PermanentFailure) return { status: 'failed', error: error.error, retry: false };
      return { status: 'failed', error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
    }
  }

  /** Report until the service took it or the job is not ours any more. @param {RunningJob} job @param {any} report */
  async #report(job, report) {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.client.update(job.id, { ...report, leaseToken: job.taken.leaseToken });
        return;
      } catch (error) {
        if (error instanceof Refusal && error.code === 'TOO_LARGE' && report.status === 'completed') {
          report = { status: 'failed', error: 'the result is larger than the service accepts', retry: false };
        } else if (error instanceof TypeError) {
          report = { status: 'failed', error: `what the handler gave is no JSON: ${error.message}`, retry: false };
        } else if ((error instanceof Refusal && !PASSING.has(error.status)) || attempt > 20) {
          throw error;
        }
        await sleep(pause(attempt));
      }
    }
  }
}

/** The job that a handler holds in its hands. */
export class RunningJob {
  #stop = new AbortController();

  /** @param {Client} client @param {TakenJob} taken */
  constructor(client, taken) {
    this.client = client;
    this.taken = taken;
    this.id = taken.id;
    this.queue = taken.queue;
    this.data = taken.data;
    this.metadata = taken.metadata;
    this.attempt = taken.attempt;
    /** Fires when the job was cancelled or its lease was lost. */
    this.signal = this.#stop.signal;
  }

  /** Report progress (any JSON value, usually 0 to 100). @param {any} value */
  async progress(value) {
    try {
      await this.client.update(this.id, { status: 'progress', progress: value, leaseToken: this.taken.leaseToken });
    } catch (error) {
      if (error instanceof Refusal && GONE.has(error.code)) this.#stop.abort();
      else if (error instanceof Unreachable) return;
      throw error;
    }
  }

  /** @param {number} leaseSeconds */
  async renew(leaseSeconds) {
    try {
      const { cancelled } = await this.client.heartbeat(this.id, this.taken.leaseToken, leaseSeconds);
      if (cancelled) this.#stop.abort();
    } catch (error) {
      if (error instanceof Refusal && GONE.has(error.code)) this.#stop.abort();
    }
  }
}

/**
 * Check that a webhook came from mech-queue, unchanged and now; returns its parsed body, throws otherwise.
 * Give it the body's exact bytes (in Express: `express.raw({ type: 'application/json' })`).
 * @param {Headers|Record<string, string|string[]|undefined>} headers
 * @param {string|Uint8Array} body
 * @param {string|string[]} secret `whsec_…`, or several of them while they change
 * @param {{toleranceSeconds?: number}} [options]
 * @returns {Promise<any>}
 */
export async function verify(headers, body, secret, { toleranceSeconds = 300 } = {}) {
  const bytes = typeof body === 'string' ? new TextEncoder().encode(body) : body;
  const id = header(headers, 'webhook-id');
  const timestamp = header(headers, 'webhook-timestamp');
  const offered = header(headers, 'webhook-signature').split(' ');
  if (!/^[0-9]{1,12}$/.test(timestamp)) throw new Error('webhook-timestamp is no number of seconds');
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > toleranceSeconds)
    throw new Error(`webhook-timestamp is more than ${toleranceSeconds} s from now`);
  const prefix = new TextEncoder().encode(`${id}.${timestamp}.`);
  const signed = new Uint8Array(prefix.length + bytes.length);
  signed.set(prefix);
  signed.set(bytes, prefix.length);
  for (const one of [secret].flat()) {
    const raw = Uint8Array.from(atob(one.replace(/^whsec_/, '')), (letter) => letter.charCodeAt(0));
    const key = await crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify']);
    for (const signature of offered) {
      if (!signature.startsWith('v1,')) continue;
      const given = base64(signature.slice(3));
      // WebCrypto compares in constant time.
      if (given && (await crypto.subtle.verify('HMAC', key, given, signed)))
        return JSON.parse(new TextDecoder().decode(bytes));
    }
  }
  throw new Error('no webhook-signature fits the secret and the body');
}

/** @param {any} headers @param {string} name @returns {string} */
function header(headers, name) {
  const value = typeof headers.get === 'function' ? headers.get(name) : headers[name];
  if (typeof value !== 'string' || !value) throw new Error(`the header ${name} is missing`);
  return value;
}

/** @param {string} text */
function base64(text) {
  try {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
}

/** @param {string} text @returns {any} undefined when it is no JSON */
function parse(text) {
  try {
    return text === '' ? {} : JSON.parse(text);
  } catch {
    return undefined;
  }
}
