-- Send deliveries again, now and with fresh attempts; a pending retry is superseded. Body and id stay.
--   Run for application `~`. args: ids (≤ 100), app; answer: per id 1 or {'!', code, sentence}
--@include lib/delivery
local queue = webhooks_queue()
local function again(id)
  local job = job_load(id)
  if not job or delivery_about(id)[2] ~= args.app then return {'!', 'NOT_FOUND', 'There is no such delivery.'} end
  if job.s == 'a' then return {'!', 'CONFLICT', 'The delivery is being sent right now.'} end
  late(job, 'man', '1')
  job:set('f', false)
  if job.s == 'd' then
    call('ZREM', P .. 'due', 'd' .. id)
    wait_in_ring(job, queue, 'promote')
  elseif job.s ~= 'w' then
    call('ZREM', P .. 'end', id)
    job:set('te', false)
    wait_in_ring(job, queue, 'retry')
  end
  job:save()
  return 1
end
local answers = {}
for i, id in ipairs(args.ids) do answers[i] = again(id) end
refill(queue)
return commit(answers)
