local helper = require "spec.helper"
local look = require "parley.sleep.look"
local uv = require "luv"

describe("a transcript that was stored", function()
  local path, entry

  before_each(function()
    path = helper.temporary_folder() .. "/transcript.jsonl"
    helper.write(path, ("x"):rep(10000) .. "the end\n")
    entry = { path = path }
    entry.size, entry.digest = look.of(path)
  end)

  after_each(helper.remove_folders)

  local function rewrite(text)
    local file <close> = assert(io.open(path, "w"))
    file:write(text)
  end

  it("is as it was", function()
    assert.equal(10008, entry.size)
    assert.matches("^%x+$", entry.digest)
    assert.is_nil(look.changed(entry))
  end)

  it("is gone, or no file", function()
    assert(uv.fs_unlink(path))
    assert.equal("gone", look.changed(entry))
    assert.is_nil(look.of(path))
    assert(uv.fs_mkdir(path, 448))
    assert.is_nil(look.of(path))
    assert.is_not_nil(look.changed(entry))
  end)

  it("was cut", function()
    rewrite(("x"):rep(10000))
    assert.equal("shorter", look.changed(entry))
  end)

  it("has grown", function()
    rewrite(("x"):rep(10000) .. "the end\nmore\n")
    assert.equal("grown", look.changed(entry))
  end)

  it("was written anew, to its length or beyond it", function()
    rewrite(("x"):rep(10000) .. "The end\n")
    assert.equal("rewritten", look.changed(entry))
    rewrite(("y"):rep(20000))
    assert.equal("rewritten", look.changed(entry))
  end)

  it("ends in the middle of a line, as it did: the next line would be none", function()
    rewrite(("x"):rep(10000) .. "the en")
    entry.size, entry.digest = look.of(path)
    assert.equal("torn", look.changed(entry))
  end)

  it("was empty", function()
    rewrite ""
    local size, digest = look.of(path)
    assert.equal(0, size)
    assert.is_nil(look.changed { path = path, size = size, digest = digest })
  end)
end)
