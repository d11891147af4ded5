-- How an attempt ended, written down with everything that follows from it; a second report of one lease changes nothing.
--   Run for application `~`. args: id, token, and
--     ok, status, code, error, ms, excerpt, truncated, delay (ms to the next attempt; nil: that was the last),
--     hold (ms for which nothing more goes to the endpoint), gone (410), patience (ms) and failures: a subscription that
--     fails for so long and so often is switched off, at half of both notice is given;
--     or drop cancelled|skipped: nothing was sent
--   answer: what the subscription became (subscription.failing, subscription.disabled or ''); nil when the lease is another's
--@allow-oom
--@include lib/delivery
local job = job_load(args.id)
if not job or job.s ~= 'a' or job.l ~= args.token then return commit(false) end
local queue, about = webhooks_queue(), delivery_about(args.id)
local prefix, subscription, notice = S .. about[2] .. ':', about[7], ''

local function drop()
  job:set('a', job:number('a') - 1)
  delivery_end(job, queue, args.drop)
end

local function settle_subscription()
  if subscription == '' then return end
  local off = args.gone and subscription_disable(prefix, subscription, 'gone')
  if off then due_at('due', now, 'e' .. string.sub(job.i, 13, 18)) end       -- its third hash: the subscription
  local fails, since = subscription_result(prefix, subscription, args.ok)
  local share = fails and not args.ok and math.min(fails / args.failures, (now - since) / args.patience) or 0
  off = share >= 1 and subscription_disable(prefix, subscription, 'failing') or off
  if off then notice = 'subscription.disabled' elseif share >= 0.5 then notice = 'subscription.failing' end
end

local function settle()
  log_attempt(job, args)
  tally_call(about, args.ok and 'success' or 'failed', args.ms)
  endpoint_result(queue, job.k, args.ok, args.hold)
  settle_subscription()
  if args.ok then
    delivery_finish(job, queue, 'complete', 'c')
    return
  end
  job:set('f', job:number('f') + 1)
  if args.delay then wait_until(job, queue, 'fail', now + args.delay) else delivery_finish(job, queue, 'fail', 'f') end
end

leave_active(job, queue)
job:set('l', false)
if args.drop then drop() else settle() end
job:save()
refill(queue)
return commit(notice)
