--- Backends over fake processes, under the real tail and the real turn: what the specs of the backend share.
local fake_process = require "parley.testing.fake_process"
local files = require "parley.base.files"
local helper = require "spec.helper"
local parley = require "parley"
local session = require "parley.session"

local M = {}

---@class spec.FakeBackends
---@field folder string   everything below stands in it
---@field home string
---@field cwd string
---@field fakes parley.testing.FakeProcess[]  in the order in which they were made; with `is_resumed`, `start_offset`
local Place = {}
Place.__index = Place

--- For `before_each`.
---@return spec.FakeBackends
function M.begin()
  local no_leaks, folder = helper.leaks(), helper.temporary_folder()
  local self = setmetatable({ no_leaks = no_leaks, folder = folder, home = folder .. "/home", cwd = folder .. "/work",
    fakes = {} }, Place)
  assert(files.make_folder(self.home .. "/.claude"))
  assert(files.make_folder(self.cwd))
  return self
end

--- For `after_each`: every fake must have been ended, and nothing be left.
function Place:finish()
  helper.remove_folders()
  for _, fake in ipairs(self.fakes) do assert(not fake:is_alive(), "a fake process still lives") end
  self.no_leaks()
end

--- Makes a backend whose sessions have fake processes.
---@param options? table      of parley.backend
---@param of_fakes? table     of fake_process.answering; `prepare(fake, count)` changes one before it starts
---@param of_sessions? table
---@return parley.Backend
function Place:backend(options, of_fakes, of_sessions)
  local all = { cwd = self.cwd, extra_env = { HOME = self.home } }
  for name, value in pairs(options or {}) do all[name] = value end
  function all.session_factory(backend, id, is_resumed, path, offset)
    local given = { session_id = id, jsonl_path = path, cwd = self.cwd, environment = { HOME = self.home },
      status_folder = self.home .. "/.claude" }
    for name, value in pairs(of_fakes or {}) do given[name] = value end
    local prepare = given.prepare
    given.prepare = nil
    local fake = fake_process.answering(given)
    fake.is_resumed, fake.start_offset = is_resumed, offset
    table.insert(self.fakes, fake)
    if prepare then prepare(fake, #self.fakes) end
    local own = { policies = backend.options.policies }
    for name, value in pairs(of_sessions or {}) do own[name] = value end
    return session.new(fake, own, { path = path, offset = offset })
  end
  return parley.backend(all)
end

function M.user(content) return { role = "user", content = content } end
function M.assistant(content) return { role = "assistant", content = content } end
function M.text(words) return { type = "text", text = words } end

M.HISTORY = { M.user "My name is Beaver.", M.assistant "Hello, Beaver." }

--- A conversation with a history that no session has.
---@param words? string
---@return table[]
function M.with_history(words) return { M.HISTORY[1], M.HISTORY[2], M.user(words or "What is my name?") } end

--- The events of a turn.
---@return parley.Event[]
function M.collect(backend, messages, request)
  local events = {}
  for event in backend:complete(messages, request) do table.insert(events, event) end
  return events
end

--- Takes a turn.
---@return parley.Event result
---@return string said        by the assistant
---@return table[] messages   for the next turn, but for its message
function M.talk(backend, messages, request)
  local events = M.collect(backend, messages, request)
  local going_on, said = table.move(messages, 1, #messages, 1, {}), {}
  for _, message in ipairs(parley.synthesize_turn_messages(events)) do table.insert(going_on, message) end
  for _, event in ipairs(events) do
    if event.type == "assistant" then table.insert(said, event:text()) end
  end
  return events[#events], table.concat(said, "|"), going_on
end

--- The types of events, in one string.
function M.types(events)
  local list = {}
  for i, event in ipairs(events) do list[i] = event.type end
  return table.concat(list, " ")
end

--- What a fake took as messages.
---@return string[]
function M.taken(fake)
  local texts = {}
  for _, record in ipairs(helper.json_lines((files.read(fake.jsonl_path) or ""):sub(fake.start_offset + 1))) do
    if record.type == "user" and type(record.message.content) == "string" then
      table.insert(texts, record.message.content)
    end
  end
  return texts
end

return M
