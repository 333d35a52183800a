-- A host of the conversations of asleep_spec.lua: goes on with those of a journal, and writes each turn into it.
-- usage: parley asleep_host.lua JOURNAL OPTIONS CONVERSATIONS TURNS SEED CLIENTS [STOP]   STOP: after so many turns
local parley = require "parley"
local files = require "parley.base.files"
local json = parley.json

local journal, set = arg[1], assert(json.decode(files.read(arg[2])))
local conversations, turns, seed, clients = tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5]), tonumber(arg[6])
local left = arg[7] and tonumber(arg[7]) or math.maxinteger

local talks, queue = {}, {}
for number = 1, conversations do talks[number] = { number = number, count = 0, messages = json.array {} } end
for line in (files.read(journal) or ""):gmatch "[^\n]+" do
  local told = json.decode(line)
  talks[told.number] = told
end
for _, talk in ipairs(talks) do
  if talk.count < turns then table.insert(queue, talk) end
end
math.randomseed(seed)

local function client(backend)
  while queue[1] and left > 0 do
    left = left - 1
    local talk = table.remove(queue, math.random(#queue))
    local words = backend:conversation(talk.messages)
    local answer = words:ask(("c%d.%d"):format(talk.number, talk.count + 1))
    local told = { number = talk.number, count = talk.count + 1, messages = words.messages,
      id = answer.result.session_id, missed = json.array {} }
    for _, event in ipairs(answer.events) do
      if event.subtype == "sleep_missed" then table.insert(told.missed, event.cause) end
    end
    files.put(journal, json.encode(told) .. "\n", "a")
    if told.count < turns then table.insert(queue, told) end
  end
end

local backend <close> = parley.backend(set)
parley.task.run(function()
  local tasks = {}
  for i = 1, clients do tasks[i] = parley.task.spawn(client, backend) end
  for _, each in ipairs(tasks) do each:await() end
end)
