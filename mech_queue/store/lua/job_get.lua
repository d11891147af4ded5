-- Read jobs. args.ids; answer, packed: per job its view (lib/view) or 0
--@no-writes
--@include lib/view
local answers = {}
for i, id in ipairs(args.ids) do answers[i] = view(id) or 0 end
return {0, cmsgpack.pack(answers)}
