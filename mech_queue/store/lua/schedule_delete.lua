-- Forget a schedule and its runs; the jobs it made stay.
--   args: id
--   answer: 1, or 0 when there was none
--@allow-oom
call('ZREM', P .. 'sch', args.id)
call('ZREM', P .. 'schedules', args.id)
return commit(call('UNLINK', P .. 'sch:' .. args.id, P .. 'runs:' .. args.id) > 0 and 1 or 0)
