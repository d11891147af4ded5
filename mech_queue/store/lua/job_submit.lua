-- Submit up to 100 jobs of one application, each by itself.
--   args.jobs: list of specs, see lib/submit
--   args.idempotency: nil or {key hash, body hash} (one job only)
--   answer, packed: per job {0|1 deduplicated|2 replayed, id} or {'!', code, sentence}
--   events: created (a job whose parent has failed already: failed too)
--   <P>idem:<hash of an Idempotency-Key> string: hash of the body .. job id, for 24 hours
--@include lib/submit
local idempotency = args.idempotency
if idempotency then
  local before = call('GET', P .. 'idem:' .. idempotency[1])
  if before then
    if string.sub(before, 1, #idempotency[2]) ~= idempotency[2] then
      return {'!', 'IDEMPOTENCY_CONFLICT', 'This Idempotency-Key was used with another body; use a new key for a new job.'}
    end
    return {0, cmsgpack.pack({{2, string.sub(before, #idempotency[2] + 1)}})}
  end
end
local answers = {}
for i, spec in ipairs(args.jobs) do answers[i] = submit(spec) end
if idempotency and answers[1][1] ~= '!' then
  call('SET', P .. 'idem:' .. idempotency[1], idempotency[2] .. answers[1][2], 'EX', 86400)
end
if app.max == HUGE then refill_queues() else refill_touched() end    -- without a limit nobody waits for a slot
return commit(cmsgpack.pack(answers))
