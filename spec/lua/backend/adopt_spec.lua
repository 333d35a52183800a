local helper = require "spec.helper"
local parley = require "parley"
local task = require "parley.base.task"
local testing = require "parley.testing"

describe("a conversation whose transcript was adopted", function()
  local check_leaks, kit
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    kit:close()
    check_leaks()
  end)

  --- A session that has ended: its messages and its id.
  local function earlier()
    local backend <close> = parley.backend(kit.options)
    local talk = backend:conversation()
    local id = talk:ask("hello").result.session_id
    return talk.messages, id
  end

  local function adopting()
    kit = testing.kit()
    local messages, id = earlier()
    local backend = parley.backend(kit.options)
    backend:adopt(messages, id, kit:transcript_path(id))
    return backend, messages, id
  end

  it("goes on in it, from the first turn or from a warm start", helper.task(function()
    local backend <close>, messages, id = adopting()
    assert.is_true(backend:warm(messages))
    local talk = backend:conversation(messages)
    assert.equal(id, talk:ask("one").result.session_id)
    assert.equal(id, talk:ask("two").result.session_id)
    assert.equal(2, #kit:events "started")
  end))

  it("goes on in it where its path is not said, for the program looks there", helper.task(function()
    kit = testing.kit()
    local messages, id = earlier()
    kit.options.state = false
    local backend <close> = parley.backend(kit.options)
    backend:adopt(messages, id)
    assert.equal(id, backend:conversation(messages):ask("one").result.session_id)
  end))

  it("goes on in it once: of two that go on from there one has a session of its own", helper.task(function()
    local backend <close>, messages, id = adopting()
    local function ask() return backend:conversation(messages):ask("x").result.session_id end
    local one, other = task.spawn(ask), task.spawn(ask)
    one, other = one:await(), other:await()
    assert.is_true((one == id) ~= (other == id))
  end))

  it("is another one when something else was said", helper.task(function()
    local backend <close>, messages, id = adopting()
    assert.not_equal(id, backend:conversation():ask("x").result.session_id)
    assert.equal(id, backend:conversation(messages):ask("x").result.session_id)
  end))

  it("can still go on in it after a start that failed", helper.task(function()
    local backend <close>, messages, id = adopting()
    kit:use { faults = { never_ready = true } }
    local talk = backend:conversation(messages, { startup_timeout_ms = 300 })
    helper.failure_of("SessionError", talk.ask, talk, "x")
    kit:use {}
    assert.equal(id, backend:conversation(messages):ask("x").result.session_id)
  end))
end)
