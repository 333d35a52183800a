--- What every injection policy promises.
return {
  prepare = { returns = "{text = string, resume = boolean?, start_offset = integer?}", fits = function(injection)
    return (injection.start_offset or 0) >= 0, "a start_offset below 0"
  end },
}
