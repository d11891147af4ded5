-- Keep a new application. The list of all (`mq:applications`) is written before, see store/applications.py.
--   args: name, settings JSON, sealed, created (ms), limits {field -> number} for the scripts
--   <P>about hash: name, settings, sealed webhook secrets (encrypted JSON), created, updated (ms), version, deleted
--   answer: 1, or 0 when it was there already (nothing is changed)
if call('EXISTS', P .. 'about') == 1 then return {0, 0} end
call('HSET', P .. 'about', 'name', args.name, 'settings', args.settings, 'sealed', args.sealed,
  'created', int(args.created), 'updated', NOW, 'version', '1')
for field, number in pairs(args.limits) do call('HSET', APP, field, int(number)) end
return commit(1)
