-- A session of the real program with our Messages API behind it, for the smoke specs, and what they ask of it.
local assert = require "luassert"
local busted = require "busted"
local files = require "parley.base.files"
local helper = require "spec.helper"
local messages_api = require "parley.testing.messages_api"
local offline_home = require "parley.testing.offline_home"
local process = require "parley.claude.process"
local session = require "parley.session"

local M = { claude = os.getenv "PARLEY_CLAUDE", version = os.getenv "PARLEY_CLAUDE_VERSION" }

--- What is known of one version and not of another.
M.is_oldest = M.version == "2.1.110" -- no status, no turn_duration
M.is_newest = M.version ~= nil and M.version >= "2.1.330"

--- One that the program attaches.
M.PICTURE = "\137PNG\r\n\26\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\8\6\0\0\0\31\21\196\137\0\0\0\rIDATx\156c\248\255\255?\0"
  .. "\5\254\2\254\167\53\129\132\0\0\0\0IEND\174B`\130"

function M.run(live, command) return helper.say(live, command, nil, true) end

--- The events of a subtype.
function M.of_subtype(said, subtype)
  local found = {}
  for _, event in ipairs(said.events) do
    if event.subtype == subtype then table.insert(found, event) end
  end
  return found
end

--- The texts that were typed, by the transcript; those that look like the program's own only where they are `known`.
function M.recorded(live, known)
  local texts, is_known = {}, {}
  for _, text in ipairs(known or {}) do is_known[text] = true end
  for _, record in ipairs(helper.json_lines(files.read(live.jsonl_path))) do
    local content = record.type == "user" and not record.isMeta and record.message.content
    local is_own = type(content) == "string" and (content:find "^<local%-command" or content:find "^<command%-")
    if type(content) == "string" and (not is_own or is_known[content]) then table.insert(texts, content) end
  end
  return texts
end

--- What the API got last.
function M.last_text(server)
  local turns = server:turns()
  return turns[#turns].text
end

--- A session, not started. `given.session` are its options, `given.process` those of its process.
function M.new(home, given)
  local of_process = { executable = M.claude, cwd = home.cwd, extra_env = home.extra_env }
  for name, value in pairs(given.process or {}) do of_process[name] = value end
  return session.new(process.new(of_process), given.session)
end

--- The body of an `it`, with a server, a home and a session that is started. `given` besides: `script` of the server,
--- `answers`, `settings` and `variables` of the home, `prepare(home)`, `is_not_started`.
function M.conversation(given, body)
  return helper.task(function()
    local server <close> = messages_api.start { script = given.script }
    local home <close> = offline_home.new { base_url = server.url, answers = given.answers,
      settings = given.settings, variables = given.variables }
    if given.prepare then given.prepare(home) end
    local live <close> = M.new(home, given)
    if not given.is_not_started then live:start() end
    body(live, server, home)
  end, 300000)
end

--- An `it` with such a conversation.
---@param name string
---@param given table?  may be left out
---@param body fun(live: parley.Session, server: parley.testing.MessagesApi, home: table)
function M.converses(name, given, body)
  if not body then given, body = {}, given end
  busted.it(name, M.conversation(given, body))
end

--- Checks that the session takes a message, and that it arrives as it was sent and is answered.
function M.is_fine(live, server, text)
  text = text or "still there?"
  local said = helper.say(live, text)
  assert.equal("success", said.verdict)
  assert.same({ "echo: " .. text }, said.texts)
  assert.equal(text, M.last_text(server))
end

return M
