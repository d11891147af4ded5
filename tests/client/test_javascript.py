"""clients/js/mech-queue.mjs under a real Node against the real service."""

import json

import pytest

from mech_queue.client import Client
from tests.e2e.node import ROOT, Script
from tests.support import Receiver
from tests.support.service import Application, Service
from tests.support.valkey import free_port

MODULE = (ROOT / "clients" / "js" / "mech-queue.mjs").as_uri()
HEAD = f"""
import {{ Client, PermanentFailure, Refusal, Unreachable, Worker, verify }} from '{MODULE}';
const client = new Client(process.env.URL, process.env.KEY);
const print = (value) => console.log(JSON.stringify(value));
"""


@pytest.fixture
def application(service: Service) -> Application:
    return service.application()


@pytest.fixture
def client(service: Service, application: Application):
    with Client(service.url, application.api_key) as made:
        yield made


def run(service: Service, application: Application, source: str, **environment: str) -> list:
    script = Script(HEAD + source, URL=service.url, KEY=application.api_key, **environment)
    return [json.loads(line) for line in script.run().splitlines()]


def test_a_producer(service, application, client):
    first, batch, waiting, found = run(
        service,
        application,
        """
        const options = { metadata: { customerId: 'c-1', n: 3 }, options: { priority: 5 } };
        const job = await client.submit('email', { to: 'ü🙂' }, options);
        const taken = (await client.claim('email', { limit: 10, workerId: 'w' }))[0];
        await client.update(taken.id, { status: 'completed', result: 42, leaseToken: taken.leaseToken });
        const done = await job.wait({ timeoutMs: 5000 });
        print([done.status, done.result, done.data, done.priority]);
        const many = await client.submitMany([{ queue: 'q', data: 1 }, { queue: 'no queue!', data: 2 }]);
        print(many.map((one) => (one instanceof Refusal ? one.code : typeof one.id)));
        try { await many[0].wait({ timeoutMs: 1200 }); } catch (error) { print(error.name); }
        const all = [];
        for await (const one of client.jobs({ metadata: { customerId: 'c-1', n: 3 }, pageSize: 1 })) all.push(one.id);
        print(all.length);
        """,
    )
    assert first == ["completed", 42, {"to": "ü🙂"}, 5]
    assert batch == ["string", "INVALID"]
    assert waiting == "TimeoutError"
    assert found == 1


def test_a_worker(service, application, client):
    good = client.submit("email", {"to": "a"})
    bad = client.submit("email", {"to": ""}, attempts=3)
    big = client.submit("big", 1, attempts=3)
    long = client.submit("long", 1)
    logged, aborted = run(
        service,
        application,
        """
        console.error = (...words) => print(words.map(String).join(' '));
        const worker = new Worker(client, { concurrency: 3, pollSeconds: 1, leaseSeconds: 5 });
        worker.queue('email', async (job) => {
          if (!job.data.to) throw new PermanentFailure('no address');
          await job.progress(50);
          return { sent: job.data.to };
        });
        worker.queue('big', () => ({ n: 10n }));
        worker.queue('long', (job) => new Promise((resolve) => {
          job.signal.addEventListener('abort', () => { print('aborted'); worker.stop(); resolve(); });
          client.job(job.id).cancel();
        }));
        await worker.run();
        """,
    )
    assert logged == f"job {bad.id} of email failed PermanentFailure: no address"
    assert aborted == "aborted"
    assert (good.get().status, good.get().result, good.get().progress) == ("completed", {"sent": "a"}, 50)
    assert (bad.get().status, bad.get().attempt) == ("failed", 1)
    assert bad.get().error == "no address"
    assert big.get().error == "what the handler gave is no JSON: Do not know how to serialize a BigInt"
    assert long.get().status == "cancelled"


def test_errors(service, application, receiver: Receiver):
    receiver.script("/api/jobs/j", [503, 503])
    nowhere = f"http://127.0.0.1:{free_port()}"
    found = run(
        service,
        application,
        """
        const code = (promise) => promise.then(() => 'none', (error) => error.code ?? error.name);
        print(await code(client.job('unknown').get()));
        print(await code(client.submit('no queue!', 1)));
        const stranger = new Worker(new Client(process.env.URL, 'sk_wrong')).queue('q', () => 1);
        print(await code(stranger.run()));
        const nobody = new Client(process.env.NOBODY, 'k', { retries: 1 });
        print(await nobody.submit('q', 1).catch((error) => `${error.name}: ${error.message}`));
        const troubled = new Client(process.env.TROUBLE, 'k', { retries: 1 });
        print(await code(troubled.job('j').get()));
        const wrong = (call) => { try { call(); } catch (error) { return error.message; } };
        print(wrong(() => new Client('localhost:3003', 'k')));
        print(wrong(() => new Worker(client).queue('q')));
        print(await client.job('').get().catch((error) => error.message));
        print(await client.submit('q', 1n).catch((error) => error.name));
        """,
        TROUBLE=receiver.url(""),
        NOBODY=nowhere,
    )
    nobody = f"Unreachable: no answer from {nowhere}: ECONNREFUSED"
    assert found == [
        "NOT_FOUND",
        "INVALID",
        "UNAUTHENTICATED",
        nobody,
        "STORE_UNAVAILABLE",
        "the service's address must start with http:// or https://, not localhost:3003",
        "the handler of q is no function",
        "an id or a name must not be empty",
        "TypeError",
    ]
    assert len(receiver.of("/api/jobs/j")) == 2


def test_a_delivery_is_verified_and_a_changed_one_is_not(service, application, client, receiver: Receiver):
    handle = client.submit("q", 1, webhooks={"cancelled": receiver.url("/hook")})
    handle.cancel()
    received = receiver.wait_for(1, "/hook")[0]
    found = run(
        service,
        application,
        """
        const { headers, body, secret } = JSON.parse(process.env.RECEIVED);
        print((await verify(new Headers(headers), body, ['whsec_b3RoZXI=', secret])).jobId);
        const refused = async (...given) => {
          try { await verify(...given); print('accepted'); } catch (error) { print(error.message.split(' ')[0]); }
        };
        await refused(headers, body + ' ', secret);
        await refused(headers, body, 'whsec_b3RoZXI=');
        await refused({ ...headers, 'webhook-timestamp': '1000000000' }, body, secret);
        await refused({}, body, secret);
        """,
        RECEIVED=json.dumps(
            {
                "headers": received.headers,
                "body": received.body.decode(),
                "secret": application.webhook_secret,
            }
        ),
    )
    assert found == [handle.id, "no", "no", "webhook-timestamp", "the"]
