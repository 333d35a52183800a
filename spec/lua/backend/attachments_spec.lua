local uv = require "luv"
local attachments = require "parley.backend.attachments"
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local parley = require "parley"
local helper = require "spec.helper"
local testing = require "parley.testing"

local PICTURE = "\137PNG\r\n\26\n and so on\0"

local function image(data, media_type)
  return { type = "image", source = { type = "base64", media_type = media_type or "image/png",
    data = data or core.text.to_base64(PICTURE) } }
end

describe("attachments", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("are private files that the text mentions, where they stood, one for what is the same", helper.task(function()
    local own = attachments.new()
    local and_more = { type = "text", text = "and" }
    local other = image(core.text.to_base64 "GIF89a", "image/gif")
    local text, folder = own:text_of({ { type = "text", text = "see" }, image(), and_more, other, image() }, 1)
    local first, second, third = text:match "^see\n@(%S+%.png)\nand\n@(%S+%.gif)\n@(%S+)$"
    assert.equal(PICTURE, (files.read(first)))
    assert.equal("GIF89a", (files.read(second)))
    assert.equal(first, third)
    assert.equal(folder, first:match "^(.*)/")
    assert.equal("700", ("%o"):format(uv.fs_stat(folder).mode & 511))
    assert.equal("600", ("%o"):format(uv.fs_stat(first).mode & 511))
    own:close()
    own:close()
    assert.is_nil(uv.fs_stat(folder))
  end))

  it("go with their own message, and leave those of others", helper.task(function()
    local own = attachments.new()
    local _, none = own:text_of({ { type = "text", text = "see" } }, 1)
    assert.is_nil(none)
    local _, one = own:text_of({ image() }, 1)
    local _, other = own:text_of({ image() }, 1)
    assert.not_equal(one, other)
    own:remove(one)
    own:remove(one)
    assert.is_nil(uv.fs_stat(one))
    assert.is_truthy(uv.fs_stat(other))
    own:close()
    assert.is_nil(uv.fs_stat(other))
  end))

  it("are refused where they cannot be sent, by name, before a file is written", helper.task(function()
    local own = attachments.new()
    for problem, block in pairs {
      ["content%[2%] is a block of type 'tool_result', which cannot be sent"] = { type = "tool_result" },
      ["source is 'url': only 'base64'"] = { type = "image", source = { type = "url", url = "https://x/y.png" } },
      ["of the kind 'image/tiff'"] = image(nil, "image/tiff"),
      ["data is no base64"] = image "no base64!",
      ["data is no picture"] = image(core.text.to_base64 "this is no picture at all"),
      ["of type 'document', which cannot be sent"] = { type = "document", source = { type = "base64" } },
    } do
      local ok, err = pcall(own.text_of, own, { image(), block }, 3)
      assert.is_false(ok)
      assert.equal("ValueError", errors.is(err) and err.code, tostring(err))
      assert.equal(3, err.index)
      assert.matches(problem, err.message)
    end
    assert.same({}, own.folders)
  end))

  it("may be called by another's name", helper.task(function()
    local own = attachments.new()
    for _, bytes in ipairs { PICTURE, "\xFF\xD8\xFF\xE0", "GIF87a", "RIFF\n\0\0\0WEBP" } do
      assert.matches("%.jpg$", (own:text_of({ image(core.text.to_base64(bytes), "image/jpeg") }, 1)))
    end
    own:close()
  end))

  local function path_in(text) return text:match "^.*\n@(/%S+)$" end

  local function asking(words) return { role = "user", content = { { type = "text", text = words }, image() } } end

  it("are there for a turn, also where mentions are refused, and gone with its end", helper.task(function()
    local kit <close> = testing.kit()
    kit.options.mentions = "refuse"
    local backend <close> = parley.backend(kit.options)
    for event in backend:complete { asking "what is this" } do
      local path = event.type == "assistant" and path_in(kit:taken()[1])
      if path then assert.equal(PICTURE, (files.read(path))) end
      if event.type == "result" then assert.equal("success", event.subtype) end
    end
    local path = path_in(kit:taken()[1])
    assert.is_nil(uv.fs_stat(path:match "^(.*)/"))
    assert.equal(1, backend:live_session_count()) -- it lives on
  end))

  for how, strike in pairs {
    ["was left early"] = function(turn) turn:close() end,
    ["was interrupted"] = function(turn)
      turn:interrupt()
      turn:result()
    end,
    ["lost its program"] = function(turn, backend)
      select(2, next(backend:live_sessions())):signal "SIGKILL"
      pcall(turn.result, turn)
    end,
  } do
    it("are gone with a turn that " .. how .. ", and no other's", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { text = "late", delay_ms = 60000 } } } }
      local backend <close> = parley.backend(kit.options)
      local other = backend:complete { asking "not yet begun" }
      local others = next(backend.attachments.folders)
      local turn <close> = backend:complete { asking "what is this" }
      repeat local event = turn() until event.type == "user"
      local path = path_in(kit:taken()[1])
      assert.equal(PICTURE, (files.read(path)))
      strike(turn, backend)
      assert.is_nil(uv.fs_stat(path:match "^(.*)/"))
      assert.is_truthy(uv.fs_stat(others))
      other:close()
      assert.is_nil(uv.fs_stat(others))
    end))
  end

  --- The events of a turn about two pictures, of a message that has one of them twice.
  local function asked_about_two(faults)
    local kit <close> = testing.kit { script = { faults = faults } }
    local backend <close> = parley.backend(kit.options)
    local of_turn = { missing = {} }
    local message = asking "what are these"
    table.insert(message.content, image(core.text.to_base64 "GIF89a", "image/gif"))
    table.insert(message.content, image())
    for event in backend:complete { message } do
      if event.subtype == "attachment_missing" then table.insert(of_turn.missing, event) end
      of_turn.last = event
    end
    return of_turn
  end

  it("that the program does not attach are told of, before the result", helper.task(function()
    local of_turn = asked_about_two { no_attachments = true }
    assert.equal("success", of_turn.last.subtype)
    assert.equal(2, #of_turn.missing)
    for i, index in ipairs { 2, 3 } do
      assert.equal("system", of_turn.missing[i].type)
      assert.equal(index, of_turn.missing[i].index)
      assert.matches(("content[%d]"):format(index), of_turn.missing[i].message, 1, true)
      assert.matches("/parley%-attached%-[^/]+/%x+%.%l+$", of_turn.missing[i].path)
    end
  end))

  it("that the program attaches are not told of", helper.task(function()
    local of_turn = asked_about_two()
    assert.equal("success", of_turn.last.subtype)
    assert.same({}, of_turn.missing)
  end))

  it("are gone with a request that is refused", helper.task(function()
    local kit <close> = testing.kit()
    local backend <close> = parley.backend(kit.options)
    backend.policies = setmetatable({ routing = { route = function() return nil, "not today" end, keys = true } },
      { __index = backend.policies })
    assert.is_false(pcall(backend.complete, backend, { asking "what is this" }))
    assert.same({}, backend.attachments.folders)
  end))
end)
