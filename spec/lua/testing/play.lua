--- What the specs of the stand-in share: a scene with a kit and terminals, and looks at what the program leaves.
local core = require "parley.core"
local files = require "parley.base.files"
local helper = require "spec.helper"
local testing = require "parley.testing"

local M = {}

--- For busted's `it`: the body gets a kit, and a function that opens a terminal on its stand-in.
---@param options? table  of testing.kit
---@param body fun(kit: parley.testing.Kit, open: fun(words?: string[], settings?: table): parley.testing.Terminal)
---@return fun()
function M.scene(options, body)
  return testing.task(function()
    local kit <close> = testing.kit(options)
    local opened <close> = setmetatable({}, { __close = function(terminals)
      for _, terminal in ipairs(terminals) do terminal:close() end
    end })
    body(kit, function(words, settings)
      local terminal = kit:terminal(words, settings)
      table.insert(opened, terminal)
      return terminal
    end)
  end, { timeout_ms = 10000 })
end

---@param path string
---@return any
function M.read_json(path)
  return (core.json.decode(assert(files.read(path))))
end

--- The texts of the messages in a transcript, what the program added by itself left out.
function M.user_texts(kit, session_id)
  local texts = {}
  for _, record in ipairs(kit:transcript(session_id)) do
    local content = record.message and record.message.content
    if record.type == "user" and not record.isMeta and type(content) == "string" then table.insert(texts, content) end
  end
  return texts
end

--- The records of a type, and of a subtype when one is given.
function M.records(kit, session_id, kind, subtype)
  local found = {}
  for _, record in ipairs(kit:transcript(session_id)) do
    if record.type == kind and (not subtype or record.subtype == subtype) then table.insert(found, record) end
  end
  return found
end

--- Waits for so many records of a type.
function M.wait_for_records(kit, session_id, kind, subtype, count)
  return testing.eventually(function()
    local found = M.records(kit, session_id, kind, subtype)
    return #found >= (count or 1) and found
  end, 10000, ("%d records %s %s"):format(count or 1, kind, subtype or ""))
end

function M.wait_for_answer(kit, session_id, count)
  return M.wait_for_records(kit, session_id, "assistant", nil, count)
end

function M.status_of(kit, terminal)
  local path = ("%s/.claude/sessions/%d.json"):format(kit.home, terminal:pid())
  return files.size(path) and M.read_json(path)
end

function M.wait_for_status(kit, terminal, wanted)
  return testing.eventually(function()
    local status = M.status_of(kit, terminal)
    return status and status.status == wanted and status
  end, 10000, "status " .. wanted)
end

--- Types a message as a careful driver does: paste, echo, Return.
function M.send(terminal, text)
  terminal:paste(text)
  terminal:wait_for(function()
    local shown = terminal:composer()
    return shown and shown:find(text:match "%S.*", 1, true) and not terminal:shows "Pasting text…"
  end)
  terminal:write "\r"
end

--- A hook that appends its input to a file in HOME.
function M.recorder(...)
  local hooks = {}
  for _, event in ipairs { ... } do
    hooks[event] = { { hooks = { { type = "command", command = "cat >> $HOME/hooks.jsonl" } } } }
  end
  return { hooks = hooks }
end

--- What the recorder has recorded.
function M.recorded(kit)
  return helper.json_lines(files.read(kit.home .. "/hooks.jsonl"))
end

return M
