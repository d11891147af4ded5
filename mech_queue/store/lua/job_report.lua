-- What workers say of jobs they run; each report by itself, up to 100 in one call.
--   args.reports: list of reports; answer, packed: list of their answers, see lib/report
--@allow-oom
--@include lib/report
local answers = {}
for i, report in ipairs(args.reports) do answers[i] = settle(report) end
if touched then refill_touched() end
return commit(cmsgpack.pack(answers))
