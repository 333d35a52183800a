--- A stand-in for the Messages API on loopback, so that the real `claude` answers without a network.
---
---     local server <close> = messages_api.start {}
---     -- claude with ANTHROPIC_BASE_URL = server.url
---     server:last_messages()   --> what the model would have seen
---
--- From a shell: `parley -e 'return require("parley.testing.messages_api").main(...)' 8788 requests.jsonl`
---
--- The answer to a message is `echo: ` and its whole text, as the API received it. "The message" is what the user typed
--- last; reminders and continuations that the program adds by itself are passed over. These words in it, whole words in
--- capitals, change the answer. They combine: `THINK DRIP`; of two that contradict each other the one earlier
--- in `M.rules` wins.
---
---   USETOOL    a text and a Bash call (`echo tool-out`)     SLOWTOOL   a Bash call that takes 30 s
---   TWOTOOLS   two Bash calls in one answer                 AGENT      a sub-agent, asked `SUBPROMPT do it`
---   WRITETOOL  writes `written.txt`                         EDITTOOL   makes `edited.txt` with the Edit tool
---   ASKUSER    AskUserQuestion: Red or Blue?                PLAN       ExitPlanMode with a plan
---   THINK      a thinking block and two texts               EMPTY      no content block
---   LONG       100 kB of text                               COUNT      `1` to `500`, a line each 20 ms
---   MAXTOK REFUSE STOPSEQ PAUSE   the echo, with the stop reason max_tokens, refusal, stop_sequence, pause_turn
---   SLOW       6 s before the first byte                    DRIP       1 s after each content block
---   CUT        the connection ends after the first delta    RETRYONCE  one 529 for this message, then the answer
---   ERR400 ERR401 ERR402 ERR403 ERR413 ERR429 ERR500 ERR504 ERR529   that HTTP error, every time
---
--- They count for the first answer to a message only. What comes later in the same turn (after a tool's result, after
--- max_tokens) is answered with the echo, so that every turn ends.
---
--- `script` replaces that table. It is a list of rules like those in `M.rules`:
---
---   on           a plain substring of the message, or `function(text, request)` that returns true
---   blocks       content blocks, or `function(request)` that returns them; tool calls get an `id`
---   stop_reason  default `tool_use` when there is a tool call, else `end_turn`
---   status       an HTTP error instead; `message` is its text, `headers` further headers of it
---   times        applies to at most so many requests for one message (for errors that are retried)
---   step         which answer to the message: 0, the default, is the first, 1 what follows a tool's result, …
---   usage        `{ input_tokens, output_tokens }`, default 10 and 5
---   delay_ms, drip_ms, line_ms   waits: before the first byte, after each block, after each line of a text or thought
---   cut          true: the connection ends after the first delta
---   cut_behind_ms  it ends so long after the blocks, of a stream, in a text that begins there
---
--- Each rule that applies adds what those before it left open. Or `script` is `function(text, request)`, asked at every
--- step, which returns one such table without `on`, `times` and `step`, or nil for the echo. What it returns wrong, or
--- raises, is told in a 400, which the program does not try again.
---
--- Requests that are no turn (`messages_request.kind`) are answered on the side, whatever words they hold; one that the
--- API would not understand gets a 400, and what is no request for a message at all a 404.
local core = require "parley.core"
local defer = require "parley.base.defer"
local errors = require "parley.base.errors"
local http = require "parley.base.http"
local messages_request = require "parley.testing.messages_request"
local messages_stream = require "parley.testing.messages_stream"
local options = require "parley.base.options"
local tables = require "parley.base.tables"
local task = require "parley.base.task"

local M = {}

local json = core.json

local ERROR_TYPES = {
  [400] = "invalid_request_error", [401] = "authentication_error", [402] = "billing_error", [403] = "permission_error",
  [413] = "request_too_large", [429] = "rate_limit_error", [500] = "api_error", [504] = "timeout_error",
  [529] = "overloaded_error",
}

local function has_word(word)
  local pattern = "%f[%w_]" .. word .. "%f[^%w_]"
  return function(text) return text:find(pattern) ~= nil end
end

local function text_block(text) return { type = "text", text = text } end

local function tool_call(name, input) return { type = "tool_use", name = name, input = input } end

local function bash(command)
  return tool_call("Bash", { command = command, description = "as the stand-in was asked" })
end

--- A file in the program's working directory: its tools want absolute paths.
local function file_path(request, name)
  return (messages_request.working_directory(request.body) or ".") .. "/" .. name
end

local function count_to(last)
  local lines = {}
  for number = 1, last do lines[number] = tostring(number) end
  return table.concat(lines, "\n")
end

--- What the words do, in the form of a `script`.
M.rules = {
  { on = has_word "USETOOL", blocks = { text_block "let me run that", bash "echo tool-out" } },
  { on = has_word "TWOTOOLS", blocks = { bash "echo A", bash "echo B" } },
  { on = has_word "SLOWTOOL", blocks = { bash "sh -c 'sleep 30'" } }, -- 2.1.330 refuses to run a bare sleep
  { on = has_word "AGENT", blocks = { -- 2.1.330 runs it in the background and tells of its end in a turn of its own
    tool_call("Agent", { description = "a sub-agent", prompt = "SUBPROMPT do it", subagent_type = "general-purpose" }),
  } },
  { on = has_word "WRITETOOL", blocks = function(request)
    return { tool_call("Write", { file_path = file_path(request, "written.txt"), content = "written\n" }) }
  end },
  { on = has_word "EDITTOOL", blocks = function(request)
    local path = file_path(request, "edited.txt")
    return { tool_call("Edit", { file_path = path, old_string = "", new_string = "edited\n" }) }
  end },
  { on = has_word "ASKUSER", blocks = {
    tool_call("AskUserQuestion", { questions = { {
      question = "Which colour shall it be?", header = "Colour", multiSelect = false,
      options = { { label = "Red", description = "like a rose" }, { label = "Blue", description = "like the sky" } },
    } } }),
  } },
  { on = has_word "PLAN", blocks = { tool_call("ExitPlanMode", { plan = "# The plan\n\n1. Do it.\n" }) } },
  { on = has_word "THINK", blocks = {
    { type = "thinking", thinking = "hmm", signature = "c2ln" }, text_block "first text", text_block "second text",
  } },
  { on = has_word "EMPTY", blocks = {} },
  { on = has_word "LONG", blocks = { text_block(("word "):rep(20000)) } },
  { on = has_word "COUNT", blocks = { text_block(count_to(500)) }, line_ms = 20 },
  { on = has_word "MAXTOK", stop_reason = "max_tokens" },
  { on = has_word "REFUSE", stop_reason = "refusal" },
  { on = has_word "STOPSEQ", stop_reason = "stop_sequence" },
  { on = has_word "PAUSE", stop_reason = "pause_turn" },
  { on = has_word "SLOW", delay_ms = 6000 },
  { on = has_word "DRIP", drip_ms = 1000 },
  { on = has_word "CUT", cut = true },
  { on = has_word "RETRYONCE", status = 529, times = 1 },
}
for status in pairs(ERROR_TYPES) do
  table.insert(M.rules, { on = has_word("ERR" .. status), status = status })
end

---@class parley.testing.ApiRequest
---@field method string
---@field path string                    with the query
---@field headers table<string, string>  lower-case names
---@field state "answering"|"answered"|"aborted"  aborted: the client went away first, or the answer was cut
---@field sent? {at: number, bytes: string}[]  the parts of its answer, and when each was sent (`parley.task.now()`)
---@field kind "turn"|"side"|"count_tokens"|"other"
---@field body any       decoded JSON; the bytes where it is none
---@field text? string   turns only: what the user typed last
---@field step? integer  turns only: how many answers that had already

---@class parley.testing.ApiAnswer
---@field blocks table[]
---@field stop_reason string
---@field usage { input_tokens: integer, output_tokens: integer }
---@field status? integer
---@field message? string
---@field headers? table<string, string>
---@field delay_ms? number
---@field drip_ms? number
---@field line_ms? number
---@field cut? boolean
---@field cut_behind_ms? number

---@class parley.testing.MessagesApi
---@field port integer
---@field url string                            for `ANTHROPIC_BASE_URL`
---@field requests parley.testing.ApiRequest[]  all of them, in order
---@field package script table|function
---@field package used table<table, table<string, integer>>
---@field package changed parley.Condition
---@field package log? file*
local Server = {}
Server.__index = Server
Server.__name = "parley.testing.MessagesApi"

--- What a block must have besides its type.
local CONTENT = { text = { text = "string" }, thinking = { thinking = "string" },
  tool_use = { name = "string", input = "table" } }

local function check_blocks(blocks)
  if type(blocks) == "function" then return nil end
  local size = 0
  for _ in pairs(blocks) do size = size + 1 end
  if size ~= #blocks then return "a list of content blocks" end
  for index, block in ipairs(blocks) do
    if not options.is_of(block, "table") or type(block.type) ~= "string" then
      return ("a list of content blocks, and [%d] has no 'type'"):format(index)
    end
    for name, kind in pairs(CONTENT[block.type] or {}) do
      if type(block[name]) ~= kind then
        return ("a list of content blocks, and [%d] needs '%s', a %s"):format(index, name, kind)
      end
    end
  end
end

local function check_usage(usage)
  if math.type(usage.input_tokens) == "integer" and math.type(usage.output_tokens) == "integer" then return nil end
  return "a table with input_tokens and output_tokens"
end

local ANSWER = {
  blocks = { type = { "table", "function" }, copy = false, check = check_blocks }, stop_reason = { type = "string" },
  status = { type = "integer" }, message = { type = "string" }, headers = { type = "map of strings" },
  usage = { type = "table", check = check_usage }, delay_ms = { type = "milliseconds" },
  drip_ms = { type = "milliseconds" }, line_ms = { type = "milliseconds" }, cut = { type = "boolean" },
  cut_behind_ms = { type = "milliseconds" },
}
local RULES = options.merge(ANSWER, { on = { type = { "string", "function" } }, times = { type = "positive integer" },
  step = { type = "integer" } })

--- Whether a rule has a use left for a message, and if so uses it.
local function has_use_left(server, rule, request)
  if not rule.times then return true end
  local message = #request.body.messages .. " " .. request.text
  local used = server.used[rule] or {}
  server.used[rule] = used
  used[message] = (used[message] or 0) + 1
  return used[message] <= rule.times
end

local function applies(server, rule, request)
  if request.step ~= (rule.step or 0) then return false end
  local on = rule.on
  local matches
  if type(on) == "function" then
    matches = on(request.text, request)
  else
    matches = request.text:find(on, 1, true)
  end
  return matches and has_use_left(server, rule, request)
end

--- What the script says about a turn; what it leaves open is missing.
local function consult(server, request)
  if type(server.script) == "function" then
    return options.check(ANSWER, server.script(request.text, request), "the Messages API's script")
  end
  local found = {}
  for _, rule in ipairs(server.script) do
    if applies(server, rule, request) then
      for name, value in pairs(rule) do
        if found[name] == nil then found[name] = value end
      end
    end
  end
  return found
end

--- Ids must not come twice, also not from two servers: the program takes records with one message id for one message.
local function new_id(prefix)
  return ("%s_%s"):format(prefix, core.uuid.generate():gsub("-", ""))
end

local function with_ids(blocks)
  local copies, has_tools = {}, false
  for index, block in ipairs(blocks) do
    local copy = tables.merged(block)
    if block.type == "tool_use" then
      has_tools = true
      copy.id = block.id or new_id "toolu"
    end
    copies[index] = copy
  end
  return copies, has_tools
end

---@return parley.testing.ApiAnswer
local function answer_to(server, request)
  local is_side = request.kind == "side"
  local answer = is_side and { blocks = { text_block(messages_request.side_text(request.body)) } }
    or tables.merged(consult(server, request))
  local blocks = answer.blocks or { text_block("echo: " .. request.text) }
  if type(blocks) == "function" then
    blocks = blocks(request)
    options.check(ANSWER, { blocks = blocks }, "the Messages API's script")
  end
  local has_tools
  answer.blocks, has_tools = with_ids(blocks)
  answer.stop_reason = answer.stop_reason or (has_tools and "tool_use" or "end_turn")
  answer.usage = answer.usage or { input_tokens = 10, output_tokens = 5 }
  return answer
end

local function send_json(response, status, value, more_headers)
  local headers = tables.merged({ ["content-type"] = "application/json" }, more_headers)
  response:send(status, headers, assert(json.encode(value)))
end

local function send_error(response, status, message, headers)
  local kind = ERROR_TYPES[status] or (status == 404 and "not_found_error" or "api_error")
  send_json(response, status, { type = "error", error = { type = kind, message = message } }, headers)
end

--- Plays the steps of an answer. One that is cut ends the connection.
local function play(request, response, content_type, steps)
  response:start(200, { ["content-type"] = content_type })
  request.sent = {}
  for _, step in ipairs(steps) do
    if step.wait_ms then task.sleep(step.wait_ms) end
    table.insert(request.sent, { at = task.now(), bytes = step.bytes or "" })
    response:write(step.bytes or "")
    if step.cut then return response:abort() end
  end
  response:finish()
end

local function send_answer(response, request, answer)
  if answer.status then
    return send_error(response, answer.status, answer.message or "as asked", answer.headers)
  end
  local message = { id = new_id "msg", type = "message", role = "assistant", model = request.body.model }
  if request.body.stream == true then
    return play(request, response, "text/event-stream", messages_stream.steps(message, answer))
  end
  local body = assert(json.encode(messages_stream.object(message, answer)))
  play(request, response, "application/json",
    { { bytes = answer.cut and body:sub(1, #body // 2) or body, cut = answer.cut } })
end

local function write_log(server, request)
  local messages = type(request.body) == "table" and request.body.messages
  local line = {
    method = request.method, path = request.path, kind = request.kind, text = request.text, step = request.step,
    messages = messages and #messages or nil,
  }
  server.log:write(assert(json.encode(line, { sort_keys = true })), "\n")
end

local function answer_request(server, request, response)
  if request.kind == "other" then
    local problem = messages_request.problem(request.method, request.path, request.body)
    return send_error(response, problem and 400 or 404, problem or "nothing is here")
  end
  if request.kind == "count_tokens" then return send_json(response, 200, { input_tokens = 10 }) end
  local ok, answer = pcall(answer_to, server, request)
  if errors.is(answer, "Cancelled") then error(answer, 0) end
  if not ok then return send_error(response, 400, errors.text(answer)) end
  if answer.delay_ms then task.sleep(answer.delay_ms) end
  send_answer(response, request, answer)
end

--- Keeps a request, and answers it.
local function serve(server, asked, response)
  local bytes = asked:body()
  local request = {
    method = asked.method, path = asked.target, headers = asked.headers, state = "answering",
    body = json.decode(bytes) or bytes,
  }
  request.kind = messages_request.kind(request.method, request.path, request.body)
  if request.kind == "turn" then
    request.text, request.step = messages_request.last_typed(request.body.messages)
  end
  table.insert(server.requests, request)
  if server.log then write_log(server, request) end
  server.changed:notify()

  local _ <close> = defer(function(err)
    request.state = (err or not response:is_whole()) and "aborted" or "answered"
    server.changed:notify()
  end)
  answer_request(server, request, response)
end

local LIMITS = { head_bytes = 64 * 1024, body_bytes = 256 * 1024 * 1024, idle_ms = math.huge }

local function check_list(script)
  for name in pairs(type(script) == "table" and script or {}) do
    if math.type(name) ~= "integer" then return "a list of rules, or a function" end
  end
end

local OPTIONS = { port = { type = "integer" }, log = { type = "string" },
  script = { type = { "table", "function" }, copy = false, check = check_list } }

--- Checks what a server is started with: a misspelt field would change nothing.
local function check(given)
  local set = options.check(OPTIONS, given, "messages_api.start")
  for i, rule in ipairs(type(set.script) == "table" and set.script or {}) do
    local where = ("messages_api.start: script[%d]"):format(i)
    options.check(RULES, rule, where)
    if rule.on == nil then error(errors.value_error(where .. " must have 'on'"), 0) end
  end
  return set
end

--- Starts a server on loopback. It keeps the loop alive until it is closed.
---@param given? { port?: integer, script?: table|function, log?: string }  port 0, the default, takes a free one; to
---  the file `log` a line of JSON is appended for each request
---@return parley.testing.MessagesApi
--- Raises `ValueError` for bad options, and an error object with the system's code when it cannot listen or the log
--- cannot be opened.
function M.start(given)
  given = check(given)
  local server = setmetatable({
    script = given.script or M.rules, requests = {}, used = {}, changed = task.condition(),
  }, Server)
  server.http = http.serve {
    port = given.port or 0, limits = LIMITS,
    handler = function(request, response) serve(server, request, response) end,
  }
  server.port = server.http.port
  server.url = "http://127.0.0.1:" .. server.port
  if given.log then
    local log, why = io.open(given.log, "a")
    if not log then
      server:close()
      error(errors.value_error("cannot open the log: " .. why), 0)
    end
    log:setvbuf "line"
    server.log = log
  end
  return server
end

--- The requests that are turns of a conversation, sub-agents' included, in order.
---@return parley.testing.ApiRequest[]
function Server:turns()
  local turns = {}
  for _, request in ipairs(self.requests) do
    if request.kind == "turn" then table.insert(turns, request) end
  end
  return turns
end

--- The messages of the newest turn: what the model would have seen last.
---@return table[]?  nil before the first
function Server:last_messages()
  local turns = self:turns()
  return turns[1] and turns[#turns].body.messages
end

--- Waits until a request is there that meets a condition; those that came before count too. Looks again whenever one
--- arrives, and when its answer is out or broken off (`request.state`).
---@param is_it fun(request: parley.testing.ApiRequest): boolean?
---@param milliseconds? number  default 10000
---@return parley.testing.ApiRequest
--- Raises an error with code `ETIMEDOUT`.
function Server:wait_for(is_it, milliseconds)
  return task.timeout(milliseconds or 10000, function()
    while true do
      for _, request in ipairs(self.requests) do
        if is_it(request) then return request end
      end
      self.changed:wait()
    end
  end)
end

--- Ends every connection and stops listening. Further calls do nothing.
function Server:close()
  self.http:close()
  if self.log then self.log:close() end
  self.log = nil
end

Server.__close = Server.close

function Server:__tostring() return ("%s (%s)"):format(Server.__name, self.url) end

--- Serves until a signal comes: the whole stand-in as a program of its own.
---@param port? string|integer  default 8788
---@param log? string           path
function M.main(port, log)
  local number = math.tointeger(tonumber(port or 8788))
  if not number then error(errors.value_error("the port must be a number, not " .. tostring(port)), 0) end
  local server <close> = M.start { port = number, log = log }
  print("listening on " .. server.url)
  io.stdout:flush()
  task.channel():receive()
end

return M
