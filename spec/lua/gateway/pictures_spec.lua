-- Pictures in a client's messages: files of their turn alone, which nobody else's session can have.
local core = require "parley.core"
local files = require "parley.base.files"
local gateways = require "spec.gateway"
local helper = require "spec.helper"
local task = require "parley.base.task"
local uv = require "luv"

local BYTES = "\137PNG\r\n\26\n and so on\0"
local SLOW = { kit = { script = { answers = { { on = "slow", text = "a slow answer", delay_ms = 3000 } } } } }

local function asking(words)
  return { role = "user", content = { { type = "text", text = words },
    { type = "image", source = { type = "base64", media_type = "image/png", data = core.text.to_base64(BYTES) } } } }
end

local function answered(text) return { role = "assistant", content = text } end

describe("a picture in a client's message", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  local function serves(...) it(gateways.serves(...)) end

  --- The file that a session was told of.
  local function file_of(gateway, number)
    return (assert(gateway.kit:taken()[number], "nothing was typed"):match "@(/%S+%.png)$")
  end

  serves("is there for its turn, and gone with it, while its session lives on", SLOW, function(gateway)
    local asked = task.spawn(gateway.ask, gateway, { asking "slow" })
    helper.eventually(function() return gateway.kit:taken()[1] end)
    local path = file_of(gateway, 1)
    assert.equal(BYTES, (files.read(path)))
    assert.equal(200, asked:await().status)
    assert.is_nil(uv.fs_stat(path:match "^(.*)/"))
    assert.equal(1, gateway.server.backend:live_session_count())
    local answer = gateway:ask { asking "slow", answered "a slow answer", { role = "user", content = "and?" } }
    assert.equal(200, answer.status)
    assert.equal(1, #gateway.kit:events "started")
  end)

  serves("that the program does not attach is told of in the log",
    { kit = { script = { faults = { no_attachments = true } } } }, function(gateway)
    for _ = 1, 2 do assert.equal(200, gateway:ask { asking "look" }.status) end
    assert.equal(2, select(2, table.concat(gateway.lines):gsub("has not attached the picture content%[2%]", "")))
  end)

  serves("is gone with a client that went away", { kit = { script = { answers = { { on = "slow", hang = true } } } },
    grace_ms = 1 }, function(gateway)
    local reader = gateway:open("/v1/messages", { model = "sonnet", messages = { asking "slow" } })
    helper.eventually(function() return gateway.kit:taken()[1] end)
    local path = file_of(gateway, 1)
    assert.is_truthy(uv.fs_stat(path))
    reader:close()
    helper.eventually(function() return not uv.fs_stat(path:match "^(.*)/") end)
  end)

  serves("cannot be had by another client, who has its path", SLOW, function(gateway)
    local other = { ["x-api-key"] = "your-token-0123456789" }
    local asked = task.spawn(gateway.ask, gateway, { asking "slow" })
    helper.eventually(function() return gateway.kit:taken()[1] end)
    local path = file_of(gateway, 1)
    local answer = gateway:ask("see @" .. path, nil, other)
    assert.equal(400, answer.status)
    assert.matches("names a file of the server", answer.body, 1, true)
    assert.equal(200, gateway:ask({ asking "mine" }, nil, other).status)
    assert.not_equal(path:match "^(.*)/", file_of(gateway, 2):match "^(.*)/")
    asked:await()
    answer = gateway:ask("see @" .. path, nil, other) -- which names nothing any more
    assert.equal("echo: see @" .. path, gateways.text_of(answer.json))
  end)

  serves("is in the history that a conversation is woken with", { idle_timeout_ms = 1 }, function(gateway)
    assert.equal(200, gateway:ask({ asking "look" }).status)
    helper.eventually(function() return gateway.server.backend:live_session_count() == 0 end)
    local words = "echo: " .. gateway.kit:taken()[1]
    local answer = gateway:ask { asking "look", answered(words), { role = "user", content = "and?" } }
    assert.equal("echo: and?", gateways.text_of(answer.json))
    assert.equal(2, #gateway.kit:events "started")
    local first, second = gateway.lines[1]:match "session=(%S+)", gateway.lines[2]:match "session=(%S+)"
    assert.equal(first, second)
    assert.is_nil(uv.fs_stat(file_of(gateway, 1)))
  end)
end)
