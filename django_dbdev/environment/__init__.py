"""Files that give a project its environment elsewhere: Nix, direnv, CI, containers."""
