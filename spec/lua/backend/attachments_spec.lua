local uv = require "luv"
local attachments = require "parley.backend.attachments"
local base64 = require "parley.base.base64"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local parley = require "parley"
local helper = require "spec.helper"
local testing = require "parley.testing"

local PICTURE = "\137PNG\r\n\26\n and so on\0"

local function image(data, media_type)
  return { type = "image", source = { type = "base64", media_type = media_type or "image/png",
    data = data or base64.encode(PICTURE) } }
end

describe("attachments", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function() check_leaks() end)

  it("are private files that the text mentions, where they stood, one for what is the same", helper.task(function()
    local own = attachments.new()
    local and_more = { type = "text", text = "and" }
    local other = image(base64.encode "GIF", "image/gif")
    local text = own:text_of({ { type = "text", text = "see" }, image(), and_more, other, image() }, 1)
    local first, second, third = text:match "^see\n@(%S+%.png)\nand\n@(%S+%.gif)\n@(%S+)$"
    assert.equal(PICTURE, (files.read(first)))
    assert.equal("GIF", (files.read(second)))
    assert.equal(first, third)
    local folder = first:match "^(.*)/"
    assert.equal("700", ("%o"):format(uv.fs_stat(folder).mode & 511))
    assert.equal("600", ("%o"):format(uv.fs_stat(first).mode & 511))
    own:close()
    own:close()
    assert.is_nil(uv.fs_stat(folder))
  end))

  it("are refused where they cannot be sent, by name, before a file is written", helper.task(function()
    local own = attachments.new()
    for problem, block in pairs {
      ["content%[2%] is a block of type 'tool_result', which cannot be sent"] = { type = "tool_result" },
      ["source is 'url': only 'base64'"] = { type = "image", source = { type = "url", url = "https://x/y.png" } },
      ["of the kind 'image/tiff'"] = image(nil, "image/tiff"),
      ["data is no base64"] = image "no base64!",
      ["of type 'document', which cannot be sent"] = { type = "document", source = { type = "base64" } },
    } do
      local ok, err = pcall(own.text_of, own, { image(), block }, 3)
      assert.is_false(ok)
      assert.equal("ValueError", errors.is(err) and err.code, tostring(err))
      assert.equal(3, err.index)
      assert.matches(problem, err.message)
    end
    assert.is_nil(own.folder)
  end))

  it("go with a message, also where mentions are refused, and are gone with the backend", helper.task(function()
    local kit <close> = testing.kit()
    kit.options.mentions = "refuse"
    local backend <close> = parley.backend(kit.options)
    local content = { { type = "text", text = "what is this" }, image() }
    for event in backend:complete { { role = "user", content = content } } do
      if event.type == "result" then assert.equal("success", event.subtype) end
    end
    local path = kit:taken()[1]:match "^what is this\n@(/%S+)$"
    assert.equal(PICTURE, (files.read(path)))
    backend:close()
    assert.is_nil(uv.fs_stat(path))
  end))
end)

describe("base64", function()
  it("gives back what it was given", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    local all = table.concat(bytes)
    for length = 0, 8 do assert.equal(all:sub(1, length), base64.decode(base64.encode(all:sub(1, length)))) end
    assert.equal(all, base64.decode(base64.encode(all)))
    assert.equal("cGFybGV5", base64.encode "parley")
    assert.equal("parley!", base64.decode "cGFy\nbGV5IQ==")
    for _, text in ipairs { "a", "ab=c", "a===", "ab*d", "abc" } do assert.is_nil(base64.decode(text), text) end
  end)
end)
