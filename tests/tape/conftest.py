from tape_peers import peers as peers
